"""Lesions of each class at each score: what every metric is computed from.

A label is 1 for a malignant lesion and 0 for a benign one. Three sources lead to ``ClassCounts``: single scores,
histograms that were added over sites, and bootstrap resamples. So each metric has one formula, for many counts at once
(``StackedCounts``). Metrics at one threshold stand in ``confusion``, others in ``roc``, ``ranking`` and
``calibration``; confidence intervals in ``bootstrap`` and ``delong``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassCounts:
    """How many benign and malignant lesions have each of ``K`` scores."""

    scores: FloatArray
    """``(K,)``, strictly ascending: the distinct scores, or the lower edges of the bins of a histogram."""
    negatives: IntArray
    """``(K,)``: benign lesions."""
    positives: IntArray
    """``(K,)``: malignant lesions."""

    @classmethod
    def from_scores(cls, labels: ArrayLike, scores: ArrayLike) -> "ClassCounts":
        """Count labels ``(N,)``, 0 or 1, at the distinct values of ``scores`` ``(N,)``, finite; ``N`` may be 0.

        >>> ClassCounts.from_scores([0, 1, 1], [0.2, 0.9, 0.2]).positives.tolist()
        [1, 1]

        Raises:
            ValueError: a label is not 0 or 1, a score is not finite, or lengths differ.
        """
        is_malignant, values = check_scores(labels, scores)
        distinct, position = np.unique(values, return_inverse=True)
        return cls(
            scores=distinct,
            negatives=np.bincount(position[~is_malignant], minlength=len(distinct)).astype(np.int64),
            positives=np.bincount(position[is_malignant], minlength=len(distinct)).astype(np.int64),
        )

    @property
    def num_negatives(self) -> int:
        """Number of benign lesions."""
        return int(self.negatives.sum())

    @property
    def num_positives(self) -> int:
        """Number of malignant lesions."""
        return int(self.positives.sum())

    @property
    def num_lesions(self) -> int:
        """Number of lesions."""
        return self.num_negatives + self.num_positives

    @property
    def prevalence(self) -> float:
        """Share of malignant lesions; there must be one lesion at least."""
        return self.num_positives / self.num_lesions

    @property
    def has_both_classes(self) -> bool:
        """Whether there are benign and malignant lesions, without which a ranking has no meaning."""
        return bool(self.negatives.any() and self.positives.any())

    def require_both_classes(self) -> None:
        """Raise ``ValueError`` if one class is missing."""
        self.stacked.require_both_classes()

    @property
    def stacked(self) -> "StackedCounts":
        """These counts as a stack of one."""
        return StackedCounts(scores=self.scores, negatives=self.negatives[None], positives=self.positives[None])


@dataclass(frozen=True, kw_only=True, eq=False)
class StackedCounts:
    """``R`` times ``ClassCounts``, of the same ``K`` scores: such as of the resamples of a bootstrap."""

    scores: FloatArray
    """``(K,)``, strictly ascending."""
    negatives: IntArray
    """``(R, K)``: benign lesions."""
    positives: IntArray
    """``(R, K)``: malignant lesions."""

    @property
    def num_negatives(self) -> IntArray:
        """``(R,)``: number of benign lesions."""
        return self.negatives.sum(axis=1)  # type: ignore[no-any-return]

    @property
    def num_positives(self) -> IntArray:
        """``(R,)``: number of malignant lesions."""
        return self.positives.sum(axis=1)  # type: ignore[no-any-return]

    @property
    def has_both_classes(self) -> NDArray[np.bool_]:
        """``(R,)``: whether there are benign and malignant lesions."""
        return (self.num_negatives > 0) & (self.num_positives > 0)

    def require_both_classes(self) -> None:
        """Raise ``ValueError`` if somewhere a class is missing."""
        for row in np.flatnonzero(~self.has_both_classes)[:1]:
            raise ValueError(
                f"Expected lesions of both classes, got {self.num_negatives[row]} benign, "
                f"{self.num_positives[row]} malignant."
            )


@dataclass(frozen=True)
class Metric:
    """A metric of counts that hold both classes: a decorator of its formula, which then takes ``ClassCounts`` too."""

    of_each: Callable[[StackedCounts], FloatArray]
    """Maps ``R`` counts to ``(R,)``, NaN where the metric is not defined."""

    def __call__(self, counts: ClassCounts) -> float | None:
        """Return the metric of ``counts``; None where it is not defined for them."""
        value = float(self.of_each(counts.stacked)[0])
        return None if np.isnan(value) else value


def check_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], FloatArray]:
    """Return "is malignant" ``(N,)``, bool, and the scores ``(N,)``, float64.

    Raises:
        ValueError: a label is not 0 or 1, a score is not finite, or lengths differ.
    """
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or truth.shape != values.shape:
        raise ValueError(f"Expected labels of shape {truth.shape} and scores of shape {values.shape} to be equal (N,).")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("Expected every label to be 0 (benign) or 1 (malignant).")
    if not np.isfinite(values).all():
        raise ValueError(f"Expected finite scores, got {np.sum(~np.isfinite(values))} that are not.")
    return truth.astype(bool), values
