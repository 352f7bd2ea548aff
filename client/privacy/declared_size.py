"""The declared size: the number of patients that a site tells the server, rounded down instead of exact."""

from shared_model.errors import PrivacyError


def declared_size(num_patients: int, rounding: int) -> int:
    """Return ``num_patients`` rounded down to a multiple of ``rounding``.

    >>> declared_size(127, rounding=10)
    120

    Raises:
        PrivacyError: fewer patients than ``rounding``, so that the size would be declared as 0.
        ValueError: ``rounding`` is not positive.
    """
    if rounding < 1:
        raise ValueError(f"Expected rounding={rounding} >= 1.")
    if num_patients < rounding:
        raise PrivacyError(f"Expected num_patients={num_patients} >= cohort_rounding={rounding}.")
    return num_patients - num_patients % rounding
