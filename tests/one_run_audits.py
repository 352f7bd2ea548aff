"""An audit in one run, as ``fedmammo attack one-run`` could have found it."""

from shared_model.privacy.one_run_bound import OneRunAudit, least_epsilon

AUDIT = OneRunAudit(
    claimed_epsilon=8.0,
    delta=1e-4,
    confidence=0.95,
    num_canaries=300,
    num_guesses=100,
    num_right=94,
    least_epsilon=least_epsilon(94, 1e-4, num_guesses=100, num_canaries=300),
    num_rounds=20,
    noise_multiplier=2.429,
    seed=0,
    fault="none",
    source="a" * 64,
)
