"""The size of its cohort that a site tells: rounded down, a declared fact and not a count."""

from shared_model.errors import PrivacyError


def declared_size(num_patients: int, rounding: int) -> int:
    """Return the cohort size that a site declares: ``num_patients`` rounded down to a multiple of ``rounding``.

    Raises:
        PrivacyError: fewer patients than ``rounding``, so that the size would be declared as 0.
        ValueError: ``rounding`` is not positive.
    """
    if rounding < 1:
        raise ValueError(f"Expected rounding={rounding} >= 1.")
    if num_patients < rounding:
        raise PrivacyError(f"Expected num_patients={num_patients} >= cohort_rounding={rounding}.")
    return num_patients - num_patients % rounding
