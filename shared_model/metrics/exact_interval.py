"""The exact interval of a share, which needs no large numbers."""

from scipy.stats import beta

from shared_model.metrics.intervals import CONFIDENCE_LEVEL, ConfidenceInterval


def exact_interval(count: int, total: int) -> ConfidenceInterval:
    """Return the interval of a share of which ``count`` of ``total`` independent cases were seen.

    It holds the true share in at least ``CONFIDENCE_LEVEL`` of all samples (Clopper and Pearson 1934, Biometrika
    26:404).

    >>> interval = exact_interval(100, 100)
    >>> round(interval.low, 3), interval.high
    (0.964, 1.0)

    Args:
        count: from 0 to ``total``.
        total: >= 1.

    Raises:
        ValueError: a number is out of bounds.
    """
    if not 0 <= count <= total or total < 1:
        raise ValueError(f"Expected count={count} from 0 to total={total}, and at least one case.")
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(1 - tail, count + 1, total - count))
    return ConfidenceInterval(low=low, high=high)
