"""The ROC curve (receiver operating characteristic) and the area under it, AUROC."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shared_model.metrics.counts import ClassCounts, FloatArray, Metric, StackedCounts


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
    return float(auroc_from_counts.of_each(ClassCounts.from_scores(labels, scores).stacked)[0])


@Metric
def auroc_from_counts(counts: StackedCounts) -> FloatArray:
    """Return the AUROC, always defined.

    Raises:
        ValueError: one class is missing.
    """
    counts.require_both_classes()
    negatives = counts.negatives.astype(np.float64)
    lower_or_half_tied = np.cumsum(negatives, axis=1) - negatives / 2
    num_pairs = counts.num_negatives.astype(np.float64) * counts.num_positives
    return np.vecdot(counts.positives, lower_or_half_tied) / num_pairs  # type: ignore[no-any-return]


def roc_curve(counts: ClassCounts) -> RocCurve:
    """Return the operating point of every distinct score; straight lines between them enclose the AUROC.

    >>> roc_curve(ClassCounts.from_scores([0, 1], [0.2, 0.9])).thresholds.tolist()
    [inf, 0.9, 0.2]

    Raises:
        ValueError: one class is missing.
    """
    ((rates,), (sensitivities,)) = operating_points(counts.stacked)
    return RocCurve(
        false_positive_rate=rates,
        sensitivity=sensitivities,
        thresholds=np.concatenate(([np.inf], counts.scores[::-1])),
    )


def operating_points(counts: StackedCounts) -> tuple[FloatArray, FloatArray]:
    """Return the false-positive rates and the sensitivities of ``roc_curve``, ``(R, K + 1)`` each, ascending.

    Raises:
        ValueError: one class is missing.
    """
    counts.require_both_classes()
    fp, tp = (
        np.cumsum(np.pad(class_counts[:, ::-1], ((0, 0), (1, 0))), axis=1)
        for class_counts in (counts.negatives, counts.positives)
    )
    return fp / fp[:, -1:], tp / tp[:, -1:]
