"""Metrics of how well scores rank lesions, beyond the AUROC.

Each is a ``Metric`` of counts of both classes. Only the order of the scores matters, not their values.
"""

from dataclasses import dataclass

import numpy as np

from shared_model.metrics.counts import ClassCounts, FloatArray, Metric, StackedCounts
from shared_model.metrics.roc import operating_points

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


@Metric
def average_precision(counts: StackedCounts) -> FloatArray:
    """Return the area under the precision-recall curve as a sum of steps, without interpolation.

    Guessing gives the prevalence. Straight lines between the points would be too optimistic (Davis and Goadrich 2006).
    """
    tp, fp = (np.cumsum(class_counts[:, ::-1], axis=1) for class_counts in (counts.positives, counts.negatives))
    ppv = tp / np.maximum(tp + fp, 1)
    return np.vecdot(np.diff(tp / tp[:, -1:], axis=1, prepend=0.0), ppv)  # type: ignore[no-any-return]


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

    @Metric
    def metric(counts: StackedCounts) -> FloatArray:
        """Add up the trapezoids below the curve, of which the limit cuts off one."""
        rates, sensitivities = operating_points(counts)
        widths, rises = np.diff(rates, axis=1), np.diff(sensitivities, axis=1)
        kept = np.clip(limit - rates[:, :-1], 0, widths)
        heights = sensitivities[:, :-1] + rises * kept / np.where(widths > 0, 2 * widths, 1)
        smallest = limit**2 / 2
        return (1 + (np.vecdot(kept, heights) - smallest) / (limit - smallest)) / 2  # type: ignore[no-any-return]

    return metric


def sensitivity_at_specificity(specificity: float) -> Metric:
    """Return the metric "best sensitivity of an operating point of at least this specificity", in [0, 1]."""

    @Metric
    def metric(counts: StackedCounts) -> FloatArray:
        """Take the best of the points; that without calls is always among them."""
        rates, sensitivities = operating_points(counts)
        return np.where(rates <= 1 - specificity + _ROUNDING, sensitivities, 0.0).max(axis=1)  # type: ignore[no-any-return]

    return metric


def specificity_at_sensitivity(sensitivity: float) -> Metric:
    """Return the metric "best specificity of an operating point of at least this sensitivity", in [0, 1]."""

    @Metric
    def metric(counts: StackedCounts) -> FloatArray:
        """Take the best of the points; that where everything is called is always among them."""
        rates, sensitivities = operating_points(counts)
        return 1 - np.where(sensitivities >= sensitivity - _ROUNDING, rates, 1.0).min(axis=1)  # type: ignore[no-any-return]

    return metric
