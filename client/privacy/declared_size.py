"""The size of its training cohort that a site tells: a constant that it chose once, at most the true count then."""

from shared_model.errors import PrivacyError


def rounded_down(num_patients: int, multiple: int) -> int:
    """Return the largest multiple of ``multiple`` >= 1 that is at most ``num_patients``.

    >>> rounded_down(37, 10)
    30
    """
    return num_patients - num_patients % multiple


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
    return rounded_down(num_patients, rounding)
