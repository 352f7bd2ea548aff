"""Labels and scores to counts, AUROC, ROC curve and the figures of one operating point: pure functions of arrays.

A label is 1 for malignant and 0 for benign; a lesion is called malignant where ``score >= threshold``. Everything
rests on ``ClassCounts``, the number of lesions of each class at each score: single scores, histograms that were added
over sites and bootstrap resamples are three ways to such counts, and every figure has one formula. More of them stand
in ``ranking`` and ``calibration``, intervals in ``resampling`` and ``delong``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

INTERVAL_LEVEL = 0.95
"""Nominal coverage of every interval and band."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval ``[low, high]``."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -np.inf < self.low <= self.high < np.inf:
            raise ValueError(f"Expected finite low={self.low} <= high={self.high}.")


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
        """Count labels ``(N,)``, 0 or 1, at the distinct values of ``scores`` ``(N,)``, finite.

        Raises:
            ValueError: one class is missing, a label is not 0 or 1, a score is not finite, or lengths differ.
        """
        counts = cls.of_any(labels, scores)
        counts.require_both_classes()
        return counts

    @classmethod
    def of_any(cls, labels: ArrayLike, scores: ArrayLike) -> "ClassCounts":
        """Count as ``from_scores``, also where one class is missing."""
        return _class_counts(*check_scores(labels, scores))

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
        """Share of malignant lesions; there must be one."""
        return self.num_positives / self.num_lesions

    @property
    def has_both_classes(self) -> bool:
        """Whether AUROC and ROC curve are defined."""
        return bool(self.negatives.any() and self.positives.any())

    def require_both_classes(self) -> None:
        """Raise ``ValueError`` if one class is missing."""
        if not self.has_both_classes:
            raise ValueError(
                f"Expected lesions of both classes, got {self.num_negatives} benign, {self.num_positives} malignant."
            )


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
        if self.negatives.ndim != 1 or self.negatives.shape != self.positives.shape or not len(self.negatives):
            raise ValueError(
                f"Expected negatives of shape {self.negatives.shape} and positives of shape {self.positives.shape} "
                "to be the same (num_bins,) with num_bins >= 1."
            )
        for name, counts in (("negatives", self.negatives), ("positives", self.positives)):
            if counts.dtype != np.int64:
                raise ValueError(f"Expected {name} of int64, got {counts.dtype}.")
            if counts.min() < 0:
                raise ValueError(f"Expected {name} >= 0, got {counts.min()}.")

    @classmethod
    def from_scores(cls, labels: ArrayLike, scores: ArrayLike, num_bins: int) -> "ScoreHistogram":
        """Count ``scores`` ``(N,)`` in [0, 1] by class; no scores at all give an empty histogram.

        Raises:
            ValueError: a label is not 0 or 1, a score is not in [0, 1], lengths differ, or ``num_bins`` < 1.
        """
        is_malignant, values = check_scores(labels, scores)
        if num_bins < 1:
            raise ValueError(f"Expected num_bins={num_bins} >= 1.")
        if values.size and not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(f"Expected scores in [0, 1], got [{values.min()}, {values.max()}].")
        bins = np.searchsorted(_lower_edges(num_bins), values, side="right") - 1
        return cls(
            negatives=np.bincount(bins[~is_malignant], minlength=num_bins).astype(np.int64),
            positives=np.bincount(bins[is_malignant], minlength=num_bins).astype(np.int64),
        )

    def __add__(self, other: "ScoreHistogram") -> "ScoreHistogram":
        if self.num_bins != other.num_bins:
            raise ValueError(f"Expected histograms of as many bins, got {self.num_bins} and {other.num_bins}.")
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
        return ClassCounts(scores=_lower_edges(self.num_bins), negatives=self.negatives, positives=self.positives)


@dataclass(frozen=True, kw_only=True)
class ConfusionCounts:
    """Lesions by truth and call at one threshold."""

    tp: int
    """Malignant, called malignant."""
    fp: int
    """Benign, called malignant."""
    tn: int
    """Benign, called benign."""
    fn: int
    """Malignant, called benign."""

    def __post_init__(self) -> None:
        for name in ("tp", "fp", "tn", "fn"):
            if getattr(self, name) < 0:
                raise ValueError(f"Expected {name}={getattr(self, name)} >= 0.")

    @classmethod
    def from_scores(cls, labels: ArrayLike, scores: ArrayLike, threshold: float) -> "ConfusionCounts":
        """Count the calls ``score >= threshold``.

        Raises:
            ValueError: a label is not 0 or 1, a score is not finite, the threshold is NaN, or lengths differ.
        """
        return confusion_of(_class_counts(*check_scores(labels, scores)), threshold)

    @classmethod
    def from_histogram(cls, histogram: ScoreHistogram, threshold: float) -> "ConfusionCounts":
        """Count the calls ``score >= threshold``, exactly, since the threshold must be the lower edge of a bin.

        Raises:
            ValueError: ``threshold`` lies inside a bin, where the histogram cannot tell the calls apart.
        """
        counts = histogram.class_counts
        if threshold not in counts.scores:
            raise ValueError(f"Expected threshold={threshold} at the lower edge of one of {histogram.num_bins} bins.")
        return confusion_of(counts, threshold)

    @property
    def sensitivity(self) -> float | None:
        """Share of the malignant lesions that are called malignant; None without malignant lesions."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def specificity(self) -> float | None:
        """Share of the benign lesions that are called benign; None without benign lesions."""
        return self.tn / (self.tn + self.fp) if self.tn + self.fp else None

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of sensitivity and specificity; None without both classes."""
        if self.sensitivity is None or self.specificity is None:
            return None
        return (self.sensitivity + self.specificity) / 2

    @property
    def f1(self) -> float | None:
        """Harmonic mean of PPV and sensitivity; None where no lesion is malignant or called so."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else None

    def ppv(self, prevalence: float | None = None) -> float | None:
        """Return the share of malignant lesions among those called malignant (positive predictive value).

        Args:
            prevalence: share of malignant lesions, in (0, 1), where the model would be used: sensitivity and
                specificity are carried over by Bayes' rule. None takes these lesions as they are.

        Returns:
            None where nothing is called malignant, or with a prevalence and without both classes.
        """
        if prevalence is None:
            return _share(self.tp, self.fp)
        if self.sensitivity is None or self.specificity is None:
            return None
        return _share(self.sensitivity * prevalence, (1 - self.specificity) * (1 - prevalence))

    def npv(self, prevalence: float | None = None) -> float | None:
        """Return the share of benign lesions among those called benign; arguments and None as for ``ppv``."""
        if prevalence is None:
            return _share(self.tn, self.fn)
        if self.sensitivity is None or self.specificity is None:
            return None
        return _share(self.specificity * (1 - prevalence), (1 - self.sensitivity) * prevalence)


@dataclass(frozen=True, kw_only=True, eq=False)
class RocCurve:
    """Operating points from "nothing is malignant" (0, 0) to "everything is" (1, 1)."""

    false_positive_rate: FloatArray
    """``(K + 1,)``, ascending: 1 - specificity."""
    sensitivity: FloatArray
    """``(K + 1,)``, ascending."""
    thresholds: FloatArray
    """``(K + 1,)``, descending from infinity."""


Statistic = Callable[[ClassCounts], float | None]
"""A figure of merit of counts that hold both classes; None where it is not defined for them."""


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve: the chance that a malignant lesion scores above a benign one.

    Ties count one half (Mann and Whitney 1947; Hanley and McNeil 1982, Radiology 143:29). ``scores`` ``(N,)`` need
    only be finite: logits will do.

    Raises:
        ValueError: one class is missing, a label is not 0 or 1, a score is not finite, or lengths differ.
    """
    return auroc_statistic(ClassCounts.from_scores(labels, scores))


def auroc_from_histogram(histogram: ScoreHistogram) -> float | None:
    """Return the AUROC with ties inside a bin counted one half; None where one class is missing."""
    counts = histogram.class_counts
    return auroc_statistic(counts) if counts.has_both_classes else None


def auroc_binning_error(histogram: ScoreHistogram) -> float | None:
    """Return the most by which the histogram's AUROC can miss that of the scores; None where one class is missing.

    A pair inside one bin is counted one half and may be worth 0 or 1; pairs across bins are counted exactly.
    """
    counts = histogram.class_counts
    if not counts.has_both_classes:
        return None
    negatives, positives = counts.negatives.astype(np.float64), counts.positives.astype(np.float64)
    return float(0.5 * (negatives @ positives) / (negatives.sum() * positives.sum()))


def threshold_for_sensitivity(histogram: ScoreHistogram, target_sensitivity: float) -> float:
    """Return the highest lower bin edge, in [0, 1), that reaches ``target_sensitivity`` on ``histogram``.

    Raises:
        ValueError: the histogram holds no malignant lesion, or the target is not in (0, 1].
    """
    if not 0 < target_sensitivity <= 1:
        raise ValueError(f"Expected target_sensitivity={target_sensitivity} in (0, 1].")
    num_malignant = histogram.positives.sum()
    if not num_malignant:
        raise ValueError("Expected at least one malignant lesion to choose a threshold by.")
    sensitivity = np.cumsum(histogram.positives[::-1])[::-1] / num_malignant
    return float(_lower_edges(histogram.num_bins)[np.flatnonzero(sensitivity >= target_sensitivity)[-1]])


def exact_threshold_for_sensitivity(labels: ArrayLike, scores: ArrayLike, target_sensitivity: float) -> float:
    """Return the highest score at which "malignant from this score on" reaches ``target_sensitivity``.

    Args:
        labels: ``(N,)``, 0 or 1, with at least one malignant lesion.
        scores: ``(N,)``, finite.
        target_sensitivity: in (0, 1].

    Raises:
        ValueError: no malignant lesion, or an argument is out of bounds.
    """
    is_malignant, values = check_scores(labels, scores)
    if not 0 < target_sensitivity <= 1:
        raise ValueError(f"Expected target_sensitivity={target_sensitivity} in (0, 1].")
    positives = np.sort(values[is_malignant])[::-1]
    if not len(positives):
        raise ValueError("Expected at least one malignant lesion, got none.")
    # The small slack keeps 0.9 * 10, which is 9.000000000000002 in other orders of rounding, from asking for 10.
    num_needed = math.ceil(target_sensitivity * len(positives) - 1e-9)
    return float(positives[num_needed - 1])


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> RocCurve:
    """Return the operating point of every distinct score; straight lines between them enclose the AUROC.

    Raises:
        ValueError: one class is missing, a label is not 0 or 1, a score is not finite, or lengths differ.
    """
    return roc_of(ClassCounts.from_scores(labels, scores))


def roc_curve_from_histogram(histogram: ScoreHistogram) -> RocCurve | None:
    """Return the operating point of every lower bin edge; None where one class is missing."""
    counts = histogram.class_counts
    return roc_of(counts) if counts.has_both_classes else None


def auroc_statistic(counts: ClassCounts) -> float:
    """Return the AUROC of ``counts``.

    Raises:
        ValueError: one class is missing.
    """
    counts.require_both_classes()
    negatives, positives = counts.negatives.astype(np.float64), counts.positives.astype(np.float64)
    lower_or_half_tied = np.cumsum(negatives) - negatives / 2
    return float(positives @ lower_or_half_tied / (negatives.sum() * positives.sum()))


def calls_statistic(threshold: float, figure: Callable[[ConfusionCounts], float | None]) -> Statistic:
    """Return the statistic "``figure`` of the calls at ``threshold``"."""

    def statistic(counts: ClassCounts) -> float | None:
        return figure(confusion_of(counts, threshold))

    return statistic


def sensitivity_statistic(threshold: float) -> Statistic:
    """Return the statistic "sensitivity at ``threshold``", None without malignant lesions."""
    return calls_statistic(threshold, lambda calls: calls.sensitivity)


def specificity_statistic(threshold: float) -> Statistic:
    """Return the statistic "specificity at ``threshold``", None without benign lesions."""
    return calls_statistic(threshold, lambda calls: calls.specificity)


def _share(part: float, rest: float) -> float | None:
    return part / (part + rest) if part + rest else None


def _lower_edges(num_bins: int) -> FloatArray:
    return np.arange(num_bins) / num_bins


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


def _class_counts(is_malignant: NDArray[np.bool_], scores: FloatArray) -> ClassCounts:
    distinct, position = np.unique(scores, return_inverse=True)
    return ClassCounts(
        scores=distinct,
        negatives=np.bincount(position[~is_malignant], minlength=len(distinct)).astype(np.int64),
        positives=np.bincount(position[is_malignant], minlength=len(distinct)).astype(np.int64),
    )


def confusion_of(counts: ClassCounts, threshold: float) -> ConfusionCounts:
    """Return the calls ``score >= threshold``.

    Raises:
        ValueError: the threshold is NaN.
    """
    if np.isnan(threshold):
        raise ValueError(f"Expected threshold={threshold} to be a number.")
    is_called = counts.scores >= threshold
    return ConfusionCounts(
        tp=int(counts.positives[is_called].sum()),
        fp=int(counts.negatives[is_called].sum()),
        tn=int(counts.negatives[~is_called].sum()),
        fn=int(counts.positives[~is_called].sum()),
    )


def roc_of(counts: ClassCounts) -> RocCurve:
    """Return the ROC curve of ``counts`` of both classes."""
    fp, tp = (np.concatenate(([0], np.cumsum(of_class[::-1]))) for of_class in (counts.negatives, counts.positives))
    return RocCurve(
        false_positive_rate=fp / fp[-1],
        sensitivity=tp / tp[-1],
        thresholds=np.concatenate(([np.inf], counts.scores[::-1])),
    )
