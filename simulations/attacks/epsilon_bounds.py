"""What the success of an attack proves about epsilon: confidence limits of proportions, and bounds from them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

FloatArray = NDArray[np.float64]


def epsilon_lower_bounds(
    without_canary: FloatArray, with_canary: FloatArray, deltas: Sequence[float], *, confidence: float
) -> list[float]:
    """Return lower bounds on epsilon at each of ``deltas`` that hold together with at least ``confidence``.

    Under (epsilon, delta)-differential privacy ``power <= exp(epsilon) * false alarms + delta`` for every test,
    whichever of the two worlds it rejects (Kairouz et al. 2015, Theorem 2.1). The first half of the scores chooses
    world and threshold for each delta; the second half bounds power and false alarms (Clopper & Pearson 1934), each
    at the level that the number of bounds asks for (Bonferroni).

    Args:
        without_canary: ``(N,)``, scores of trials without the canary, ``N`` >= 4.
        with_canary: ``(N,)``, scores of trials with the canary; larger scores speak for its presence.
        deltas: each in (0, 1).
        confidence: in (0, 1).
    """
    half = len(without_canary) // 2
    level = 1 - (1 - confidence) / (2 * len(deltas))
    # Each test rejects its first world where the score is at least a threshold.
    tests = ((without_canary, with_canary), (-with_canary, -without_canary))
    first_halves = [(null[:half], other[:half]) for null, other in tests]
    thresholds = [np.concatenate(scores) for scores in first_halves]
    limits = [_limits(*scores, tried, level=level) for scores, tried in zip(first_halves, thresholds, strict=True)]
    lower_bounds = []
    for delta in deltas:
        bounds = [_lower_bounds(*limits_of_test, delta=delta) for limits_of_test in limits]
        best = int(np.argmax([bounds_of_test.max() for bounds_of_test in bounds]))
        threshold = thresholds[best][bounds[best].argmax()] if bounds[best].max() > 0 else math.inf
        null, other = (scores[half:] for scores in tests[best])
        counted = _limits(null, other, np.array([threshold]), level=level)
        lower_bounds.append(float(_lower_bounds(*counted, delta=delta)[0]))
    return lower_bounds


def _limits(
    null: FloatArray, other: FloatArray, thresholds: FloatArray, *, level: float
) -> tuple[FloatArray, FloatArray]:
    """Return for each threshold ``(K,)`` a lower limit of the power and an upper limit of the false alarms."""
    power = proportion_lower_limits(_counts_at_least(other, thresholds), len(other), level=level)
    return power, proportion_upper_limits(_counts_at_least(null, thresholds), len(null), level=level)


def _lower_bounds(power: FloatArray, false_alarms: FloatArray, *, delta: float) -> FloatArray:
    """Return the lower bound on epsilon that each threshold gives ``(K,)``; 0 where it gives none."""
    return np.log(np.maximum((power - delta) / false_alarms, 1.0))


def _counts_at_least(scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    return np.asarray(len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left"), dtype=np.float64)


def proportion_lower_limits(counts: FloatArray, total: int, *, level: float) -> FloatArray:
    """Return Clopper and Pearson's lower confidence limits of proportions seen in ``counts`` of ``total`` trials.

    >>> proportion_lower_limits(np.array([0.0, 10.0]), 10, level=0.95).round(3).tolist()
    [0.0, 0.741]
    """
    return np.where(counts > 0, beta.ppf(1 - level, np.maximum(counts, 1), total - counts + 1), 0.0)


def proportion_upper_limits(counts: FloatArray, total: int, *, level: float) -> FloatArray:
    """Return Clopper and Pearson's upper confidence limits of proportions seen in ``counts`` of ``total`` trials.

    >>> proportion_upper_limits(np.array([0.0, 10.0]), 10, level=0.95).round(3).tolist()
    [0.259, 1.0]
    """
    return np.where(counts < total, beta.ppf(level, counts + 1, np.maximum(total - counts, 1)), 1.0)
