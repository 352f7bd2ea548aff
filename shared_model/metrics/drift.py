"""Whether numbers are distributed as they were: the Kolmogorov-Smirnov distance with its interval and test.

The distance is the largest difference of two cumulative shares: 0 where the distributions are the same, 1 where they
do not overlap. The population stability index, which is more common, says by fixed limits what is much: of ten bins
and thirty cases it passes its limit of 0.25 by chance alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp, kstwo

from shared_model.metrics.counts import FloatArray
from shared_model.metrics.intervals import CONFIDENCE_LEVEL, ConfidenceInterval

MIN_CASES = 30
"""On either side below which nothing is said: the interval of a distance would be wider than half of its range."""
_NUM_SHARES = 101


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far two samples lie apart."""

    distance: float
    """In [0, 1]."""
    interval: ConfidenceInterval
    """It holds the distance of the distributions in at least ``CONFIDENCE_LEVEL`` of all samples, whatever they are
    (Massart 1990, Annals of Probability 18:1269: the constant in the inequality of Dvoretzky, Kiefer and Wolfowitz)."""
    p_value: float
    """Of so large a distance, or a larger one, where the distributions are the same."""


def drift(here: Sequence[float], reference: Sequence[float]) -> Drift | None:
    """Return how far ``here`` lies from ``reference``, two samples of independent cases; of up to 10,000 p is exact.

    Returns:
        None with fewer than ``MIN_CASES`` on a side.

    Raises:
        ValueError: a number is not finite.
    """
    own, other = _checked(here), _checked(reference)
    if min(len(own), len(other)) < MIN_CASES:
        return None
    # Of equal numbers the test is the more cautious.
    found = ks_2samp(own, other)
    distance = float(found.statistic)
    return Drift(distance=distance, interval=_around(distance, len(own), (len(other),)), p_value=float(found.pvalue))


def drift_from_mixture(here: Sequence[float], *parts: Sequence[float]) -> Drift | None:
    """Return how far ``here`` lies from the mixture of two samples that fits it best.

    A hospital has another share of cancers than the public lesions have, which alone moves its scores. So the distance
    is that from the nearest mixture, and the p-value the largest of all: what is small speaks against every share.

    Args:
        here: independent cases of unknown class.
        parts: the two classes' cases.

    Returns:
        None with fewer than ``MIN_CASES`` here or in a class.

    Raises:
        ValueError: a number is not finite, or there are not two classes.
    """
    if len(parts) != 2:
        raise ValueError(f"Expected two classes, got {len(parts)}.")
    own, first, second = _checked(here), *(_checked(part) for part in parts)
    if min(len(own), len(first), len(second)) < MIN_CASES:
        return None
    points = np.unique(np.concatenate((own, first, second)))
    shares = np.linspace(0, 1, _NUM_SHARES)
    mixed = np.outer(1 - shares, _cumulative(first, points)) + np.outer(shares, _cumulative(second, points))
    distances = np.abs(mixed - _cumulative(own, points)).max(axis=1)
    # A weighted sample tells as much as one of so many equal cases (Kish 1965, 8.2).
    sizes = 1 / ((1 - shares) ** 2 / len(first) + shares**2 / len(second))
    together = np.maximum(1, np.floor(len(own) * sizes / (len(own) + sizes)))
    # The exact distribution takes long, and of so many cases the least distance has the largest p-value.
    counts, which = np.unique(together, return_inverse=True)
    nearest = np.full(len(counts), np.inf)
    np.minimum.at(nearest, which, distances)
    distance = float(distances.min())
    return Drift(
        distance=distance,
        interval=_around(distance, len(own), (len(first), len(second))),
        p_value=float(kstwo.sf(nearest, counts).max()),
    )


def _checked(values: Sequence[float]) -> FloatArray:
    checked = np.sort(np.asarray(values, dtype=np.float64))
    if not np.isfinite(checked).all():
        raise ValueError("Expected finite numbers.")
    return checked


def _cumulative(ordered: FloatArray, points: FloatArray) -> FloatArray:
    shares: FloatArray = np.searchsorted(ordered, points, side="right") / len(ordered)
    return shares


def _around(distance: float, num_here: int, num_reference: tuple[int, ...]) -> ConfidenceInterval:
    tail = (1 - CONFIDENCE_LEVEL) / (1 + len(num_reference))
    own, *others = (float(np.sqrt(np.log(2 / tail) / (2 * count))) for count in (num_here, *num_reference))
    # A mixture lies no farther from its own distribution than its worse part.
    half = own + max(others)
    return ConfidenceInterval(low=max(0.0, distance - half), high=min(1.0, distance + half))
