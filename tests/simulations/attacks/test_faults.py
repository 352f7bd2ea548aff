"""What each planted fault changes, and what it leaves: noise and clipping in absolute terms."""

import pytest

from shared_model.privacy.plan import PrivacyPlan
from simulations.attacks.canary import audited_config
from simulations.attacks.faults import Fault, with_fault


@pytest.fixture(scope="module")
def plan():
    config = audited_config(sampling_rate=1.0, target_epsilon=8.0)
    return PrivacyPlan.calibrate(config, 10)


@pytest.mark.parametrize(
    ("fault", "noise", "clipping"),
    [
        (Fault.NONE, 1.0, 1.0),
        (Fault.HALF_NOISE, 0.5, 1.0),
        (Fault.NO_CLIPPING, 1.0, 1e3),
        # The fault lies in the data: every lesion counts as a patient.
        (Fault.PER_LESION, 1.0, 1.0),
    ],
)
def test_noise_and_clipping(plan, fault, noise, clipping):
    changed = with_fault(plan, fault)
    assert changed.max_grad_norm / plan.max_grad_norm == pytest.approx(clipping)
    before, after = (one.noise_multiplier * one.max_grad_norm for one in (plan, changed))
    assert after / before == pytest.approx(noise)


@pytest.mark.parametrize("fault", Fault)
def test_the_claim_stays_the_same(plan, fault):
    """The epsilon that a faulty site would state is that of the plan."""
    changed = with_fault(plan, fault)
    assert (changed.target_epsilon, changed.delta) == (plan.target_epsilon, plan.delta)
    assert (changed.sampling_rate, changed.num_rounds) == (plan.sampling_rate, plan.num_rounds)
