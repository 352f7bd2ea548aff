"""The ROC curve (receiver operating characteristic) and the area under it, AUROC."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shared_model.metrics.counts import ClassCounts, FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class RocCurve:
    """Operating points: from (0, 0), where nothing is called malignant, to (1, 1), where everything is."""

    false_positive_rate: FloatArray
    """``(K + 1,)``, ascending: 1 - specificity."""
    sensitivity: FloatArray
    """``(K + 1,)``, ascending."""
    thresholds: FloatArray
    """``(K + 1,)``, descending from infinity."""


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve: the chance that a malignant lesion scores above a benign one.

    >>> auroc([0, 0, 1], [0.1, 0.9, 0.5])
    0.5

    Ties count one half (Mann and Whitney 1947; Hanley and McNeil 1982, Radiology 143:29). ``scores`` ``(N,)`` need
    only be finite, so logits are fine too.

    Raises:
        ValueError: one class is missing, a label is not 0 or 1, a score is not finite, or lengths differ.
    """
    return auroc_from_counts(ClassCounts.from_scores(labels, scores))


def auroc_from_counts(counts: ClassCounts) -> float:
    """Return the AUROC of ``counts``.

    Raises:
        ValueError: one class is missing.
    """
    counts.require_both_classes()
    negatives, positives = counts.negatives.astype(np.float64), counts.positives.astype(np.float64)
    lower_or_half_tied = np.cumsum(negatives) - negatives / 2
    return float(positives @ lower_or_half_tied / (negatives.sum() * positives.sum()))


def roc_curve(counts: ClassCounts) -> RocCurve:
    """Return the operating point of every distinct score; straight lines between them enclose the AUROC.

    >>> roc_curve(ClassCounts.from_scores([0, 1], [0.2, 0.9])).thresholds.tolist()
    [inf, 0.9, 0.2]

    Raises:
        ValueError: one class is missing.
    """
    counts.require_both_classes()
    fp, tp = (
        np.concatenate(([0], np.cumsum(class_counts[::-1]))) for class_counts in (counts.negatives, counts.positives)
    )
    return RocCurve(
        false_positive_rate=fp / fp[-1],
        sensitivity=tp / tp[-1],
        thresholds=np.concatenate(([np.inf], counts.scores[::-1])),
    )
