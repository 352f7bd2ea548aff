"""Logistic recalibration: probabilities moved to the outcomes of another population, with what is not known of that.

With few outcomes only the offset of the logits is fitted, which moves the mean of the probabilities to the share of
positives; with more the slope too, which draws them together or apart (Cox 1958, Biometrika 45:562; Steyerberg et al.
2004, Statistics in Medicine 23:2567). A slope from few outcomes does more harm than the one that is there.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from shared_model.metrics.counts import FloatArray
from shared_model.metrics.intervals import CONFIDENCE_LEVEL, ConfidenceInterval
from shared_model.metrics.platt_scaling import PlattScaling, finite_logits, fit_platt_scaling, smoothed_targets

MIN_PER_CLASS = 10
"""Outcomes of either class below which nothing is fitted, however many there are of the other."""
_WIDEST_LOGIT = 50.0


@dataclass(frozen=True, kw_only=True)
class Recalibration:
    """A line through logits: ``slope * l + offset``, with the covariance of both."""

    slope: float
    """Positive; 1 where it was not fitted."""
    offset: float
    is_slope_fitted: bool
    variance_slope: float
    """0 where it was not fitted."""
    variance_offset: float
    covariance: float
    num_positives: int
    num_negatives: int

    def probability(self, score: float) -> float:
        """Return what becomes of a probability in [0, 1]."""
        return float(PlattScaling(scale=self.slope, offset=self.offset).probabilities(finite_logits(score)))

    def interval(self, score: float) -> ConfidenceInterval:
        """Return the interval of that, normal on the scale of logits; it holds what is not known of the line alone."""
        logit = float(finite_logits(score))
        variance = logit**2 * self.variance_slope + 2 * logit * self.covariance + self.variance_offset
        half = float(norm.ppf((1 + CONFIDENCE_LEVEL) / 2)) * math.sqrt(max(variance, 0.0))
        middle = self.slope * logit + self.offset
        return ConfidenceInterval(
            low=min(float(expit(middle - half)), self.probability(score)),
            high=max(float(expit(middle + half)), self.probability(score)),
        )


def fit_recalibration(labels: ArrayLike, scores: ArrayLike, *, has_slope: bool) -> Recalibration | None:
    """Fit the line to independent outcomes, with the smoothed targets of ``fit_platt_scaling``.

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, probabilities in [0, 1].
        has_slope: whether the slope is fitted too. Where it cannot be told from 0, malignant lesions having no higher
            scores for sure, only the offset is.

    Returns:
        None with fewer than ``MIN_PER_CLASS`` of a class.

    Raises:
        ValueError: a label is not 0 or 1, a score is not in [0, 1], or lengths differ.
    """
    targets, logits = smoothed_targets(labels, scores)
    num_positives = int(np.asarray(labels).sum())
    num_negatives = len(targets) - num_positives
    if min(num_positives, num_negatives) < MIN_PER_CLASS:
        return None
    counts = {"num_positives": num_positives, "num_negatives": num_negatives}
    line = fit_platt_scaling(labels, scores) if has_slope else None
    if line is not None:
        weight, middle, spread = _moments(logits, line)
        if line.scale * math.sqrt(spread) > float(norm.ppf((1 + CONFIDENCE_LEVEL) / 2)):
            return Recalibration(
                slope=line.scale,
                offset=line.offset,
                is_slope_fitted=True,
                variance_slope=1 / spread,
                variance_offset=1 / weight + middle**2 / spread,
                covariance=-middle / spread,
                **counts,
            )
    line = PlattScaling(scale=1.0, offset=_offset(targets, logits))
    return Recalibration(
        slope=1.0,
        offset=line.offset,
        is_slope_fitted=False,
        variance_slope=0.0,
        variance_offset=1 / _moments(logits, line)[0],
        covariance=0.0,
        **counts,
    )


def _moments(logits: FloatArray, line: PlattScaling) -> tuple[float, float, float]:
    """Return the sum of the weights ``p * (1 - p)``, the logits' weighted mean, and their squares about it summed.

    Fisher's information of slope and offset, turned round from these, stays finite where all scores are nearly equal.
    """
    probabilities = line.probabilities(logits)
    weights = np.maximum(probabilities * (1 - probabilities), np.finfo(float).tiny)
    middle = float(np.average(logits, weights=weights))
    return float(weights.sum()), middle, float(weights @ (logits - middle) ** 2)


def _offset(targets: FloatArray, logits: FloatArray) -> float:
    """Return the offset with which the mean probability is the mean target: it grows with it, so there is one."""

    def excess(offset: float) -> float:
        return float(np.sum(expit(logits + offset) - targets))

    return float(brentq(excess, -_WIDEST_LOGIT, _WIDEST_LOGIT))
