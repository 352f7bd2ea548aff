"""Score histograms: how many lesions of each class have a score in each bin.

A site can send such counts instead of single scores, and the counts of several sites can be added. Here they are exact;
``shared_model.privacy.patient_histogram`` holds those that carry privacy noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared_model.metrics.counts import ClassCounts, FloatArray, IntArray, check_scores


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreHistogram:
    """Counts of scores in ``num_bins`` equal bins over [0, 1]; histograms of different sites add up.

    Bin ``b`` holds the scores in ``[b / num_bins, (b + 1) / num_bins)``, the last bin also the score 1. Edges compare
    as float64, so that ``score >= b / num_bins`` and ``bin >= b`` are the same statement.
    """

    negatives: IntArray
    """``(num_bins,)``, int64, >= 0: benign lesions."""
    positives: IntArray
    """``(num_bins,)``, int64, >= 0: malignant lesions."""

    def __post_init__(self) -> None:
        require_bins(self.negatives, self.positives)
        for name, counts in (("negatives", self.negatives), ("positives", self.positives)):
            if counts.dtype != np.int64:
                raise ValueError(f"Expected {name} of int64, got {counts.dtype}.")
            if counts.min() < 0:
                raise ValueError(f"Expected {name} >= 0, got {counts.min()}.")

    @classmethod
    def from_scores(cls, labels: ArrayLike, scores: ArrayLike, num_bins: int) -> "ScoreHistogram":
        """Count ``scores`` ``(N,)`` in [0, 1] by class; without scores all counts are 0.

        Raises:
            ValueError: a label is not 0 or 1, a score is not in [0, 1], lengths differ, or ``num_bins`` < 1.
        """
        is_malignant, bins = binned_scores(labels, scores, num_bins)
        return cls(
            negatives=np.bincount(bins[~is_malignant], minlength=num_bins).astype(np.int64),
            positives=np.bincount(bins[is_malignant], minlength=num_bins).astype(np.int64),
        )

    def __add__(self, other: "ScoreHistogram") -> "ScoreHistogram":
        require_equal_bins(self.num_bins, other.num_bins)
        return ScoreHistogram(
            negatives=self.negatives + other.negatives,
            positives=self.positives + other.positives,
        )

    @property
    def num_bins(self) -> int:
        """Number of bins."""
        return len(self.negatives)

    @property
    def num_lesions(self) -> int:
        """Number of scores counted."""
        return int(self.negatives.sum() + self.positives.sum())

    @property
    def class_counts(self) -> ClassCounts:
        """The counts, each bin standing at its lower edge."""
        return ClassCounts(scores=lower_edges(self.num_bins), negatives=self.negatives, positives=self.positives)


def lower_edges(num_bins: int) -> FloatArray:
    """Return the scores ``(num_bins,)``, from 0, at which equal bins over [0, 1] begin.

    >>> lower_edges(4).tolist()
    [0.0, 0.25, 0.5, 0.75]
    """
    return np.arange(num_bins) / num_bins


def binned_scores(labels: ArrayLike, scores: ArrayLike, num_bins: int) -> tuple[NDArray[np.bool_], IntArray]:
    """Return "is malignant" ``(N,)``, bool, and the bin of every score ``(N,)``, int64.

    >>> binned_scores([0, 0, 1, 1], [0.0, 0.25, 0.3, 1.0], 4)[1].tolist()
    [0, 1, 1, 3]

    Raises:
        ValueError: a label is not 0 or 1, a score is not in [0, 1], lengths differ, or ``num_bins`` < 1.
    """
    is_malignant, values = check_scores(labels, scores)
    if num_bins < 1:
        raise ValueError(f"Expected num_bins={num_bins} >= 1.")
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"Expected scores in [0, 1], got [{values.min()}, {values.max()}].")
    return is_malignant, np.searchsorted(lower_edges(num_bins), values, side="right").astype(np.int64) - 1


def require_bins(negatives: NDArray[np.generic], positives: NDArray[np.generic]) -> None:
    """Check that the counts of both classes have one shape ``(num_bins,)`` with at least one bin.

    Raises:
        ValueError: naming both shapes.
    """
    if negatives.ndim != 1 or negatives.shape != positives.shape or not len(negatives):
        raise ValueError(
            f"Expected negatives of shape {negatives.shape} and positives of shape {positives.shape} "
            "to be the same (num_bins,) with num_bins >= 1."
        )


def require_equal_bins(left: int, right: int) -> None:
    """Check that two histograms that are to be added have equally many bins.

    Raises:
        ValueError: naming both numbers.
    """
    if left != right:
        raise ValueError(f"Expected histograms of as many bins, got {left} and {right}.")
