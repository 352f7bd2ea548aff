"""Which feature constants a run should begin with: the rule, in one place."""

from shared_model.config.choices import ConstantsFrom, PrivacyMode
from shared_model.config.experiment import ExperimentConfig

LEAST_PATIENTS = 300
"""Declared by all sites together, from which a private mean is worth its noise."""
LARGEST_SHIPPED_EPSILON = 2.0
"""Up to which its noise costs more than other hospitals' constants."""


def advised_constants(num_patients: int, target_epsilon: float | None) -> ConstantsFrom:
    """Return where constants should come from: a private mean for many patients at a large epsilon, else shipped ones.

    Args:
        num_patients: declared by all sites together.
        target_epsilon: of the training; None without privacy.

    >>> advised_constants(690, 8.0).value, advised_constants(690, 2.0).value, advised_constants(299, 8.0).value
    ('private_mean', 'shipped', 'shipped')
    """
    is_exact_enough = target_epsilon is None or target_epsilon > LARGEST_SHIPPED_EPSILON
    return ConstantsFrom.PRIVATE_MEAN if num_patients >= LEAST_PATIENTS and is_exact_enough else ConstantsFrom.SHIPPED


def constants_advice(config: ExperimentConfig, num_patients: int | None) -> str | None:
    """Return one line for the person who starts a run with a private mean against the rule; None where there is none.

    Args:
        config: of the run.
        num_patients: as in ``advised_constants``; None where nobody has declared any yet.
    """
    is_private = config.privacy.mode is PrivacyMode.PATIENT
    if not config.has_private_mean or not is_private:
        return None
    epsilon, known = config.privacy.target_epsilon, LEAST_PATIENTS if num_patients is None else num_patients
    if advised_constants(known, epsilon) is ConstantsFrom.PRIVATE_MEAN:
        return None
    reason = f"{known} declared patients" if known < LEAST_PATIENTS else f"privacy.target_epsilon={epsilon:g}"
    return (
        f"Warning: with {reason} the noise of model.feature_constants=private_mean costs more than it gives; "
        "model.feature_constants=shipped is better below "
        f"{LEAST_PATIENTS} patients or up to epsilon {LARGEST_SHIPPED_EPSILON:g} (preset=few_patients)."
    )
