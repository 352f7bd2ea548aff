"""Metrics of how well scores rank lesions, beyond the AUROC.

Each is a ``Metric``: a function of counts of both classes. Only the order of the scores matters, not their values.
"""

from dataclasses import dataclass

import numpy as np

from shared_model.metrics.counts import ClassCounts, FloatArray, Metric
from shared_model.metrics.roc import roc_curve

_ROUNDING = 1e-12
"""By how much 1 - 0.9 may miss 0.1, and a share of counts a target that it meets exactly."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PrecisionRecallCurve:
    """Operating points: from the highest score, where few lesions are called malignant, down to where all are."""

    sensitivity: FloatArray
    """``(K,)``, ascending: recall."""
    ppv: FloatArray
    """``(K,)``: precision."""


def precision_recall_curve(counts: ClassCounts) -> PrecisionRecallCurve:
    """Return the operating point of every distinct score at which anything is called malignant."""
    tp, fp = (np.cumsum(class_counts[::-1]) for class_counts in (counts.positives, counts.negatives))
    is_called = tp + fp > 0
    return PrecisionRecallCurve(sensitivity=tp[is_called] / tp[-1], ppv=tp[is_called] / (tp + fp)[is_called])


def average_precision(counts: ClassCounts) -> float:
    """Return the area under the precision-recall curve as a sum of steps, without interpolation.

    Guessing gives the prevalence. Straight lines between the points would be too optimistic (Davis and Goadrich 2006).
    """
    curve = precision_recall_curve(counts)
    return float(np.diff(curve.sensitivity, prepend=0.0) @ curve.ppv)


def partial_auroc(max_false_positive_rate: float) -> Metric:
    """Return the metric "partial AUROC": the area up to a false-positive rate.

    It is standardised so that guessing gives 1/2 and a perfect ranking 1.

    Source: McClish 1989, Medical Decision Making 9:190.

    Args:
        max_false_positive_rate: in (0, 1].

    Raises:
        ValueError: the rate is out of bounds.
    """
    limit = max_false_positive_rate
    if not 0 < limit <= 1:
        raise ValueError(f"Expected max_false_positive_rate={limit} in (0, 1].")

    def metric(counts: ClassCounts) -> float:
        curve = roc_curve(counts)
        end = int(np.searchsorted(curve.false_positive_rate, limit, side="right"))
        last = np.interp(limit, curve.false_positive_rate[end - 1 : end + 1], curve.sensitivity[end - 1 : end + 1])
        rates = np.append(curve.false_positive_rate[:end], limit)
        area = np.trapezoid(np.append(curve.sensitivity[:end], last), rates)
        smallest = limit**2 / 2
        return float((1 + (area - smallest) / (limit - smallest)) / 2)

    return metric


def sensitivity_at_specificity(specificity: float) -> Metric:
    """Return the metric "best sensitivity of an operating point of at least this specificity", in [0, 1]."""

    def metric(counts: ClassCounts) -> float:
        curve = roc_curve(counts)
        return float(curve.sensitivity[curve.false_positive_rate <= 1 - specificity + _ROUNDING].max())

    return metric


def specificity_at_sensitivity(sensitivity: float) -> Metric:
    """Return the metric "best specificity of an operating point of at least this sensitivity", in [0, 1]."""

    def metric(counts: ClassCounts) -> float:
        curve = roc_curve(counts)
        return float(1 - curve.false_positive_rate[curve.sensitivity >= sensitivity - _ROUNDING].min())

    return metric
