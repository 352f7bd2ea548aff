"""The confusion matrix at one threshold, and the rates that follow from it.

At a threshold each lesion is called malignant (``score >= threshold``) or benign; such a decision is a call. For
example, of four malignant lesions with three called malignant the sensitivity is 0.75.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shared_model.metrics.counts import ClassCounts, Metric


@dataclass(frozen=True, kw_only=True)
class ConfusionCounts:
    """Lesions by their true class and by how they are called at one threshold.

    >>> counts = ConfusionCounts.from_scores([1, 1, 1, 1, 0], [0.9, 0.8, 0.7, 0.2, 0.6], threshold=0.5)
    >>> counts.sensitivity, counts.specificity, counts.ppv()
    (0.75, 0.0, 0.75)
    """

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
        """Count the calls of labels ``(N,)`` and scores ``(N,)`` at ``threshold``.

        Raises:
            ValueError: a label is not 0 or 1, a score is not finite, the threshold is NaN, or lengths differ.
        """
        return cls.from_counts(ClassCounts.from_scores(labels, scores), threshold)

    @classmethod
    def from_counts(cls, counts: ClassCounts, threshold: float) -> "ConfusionCounts":
        """Count the calls at ``threshold``.

        Raises:
            ValueError: the threshold is NaN.
        """
        if np.isnan(threshold):
            raise ValueError(f"Expected threshold={threshold} to be a number.")
        is_called = counts.scores >= threshold
        return cls(
            tp=int(counts.positives[is_called].sum()),
            fp=int(counts.negatives[is_called].sum()),
            tn=int(counts.negatives[~is_called].sum()),
            fn=int(counts.positives[~is_called].sum()),
        )

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
        """F1 score: harmonic mean of PPV and sensitivity; None where no lesion is malignant or called malignant."""
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


def metric_at_threshold(threshold: float, rate: Callable[[ConfusionCounts], float | None]) -> Metric:
    """Return the metric that takes ``rate`` of the calls at ``threshold``."""

    def metric(counts: ClassCounts) -> float | None:
        return rate(ConfusionCounts.from_counts(counts, threshold))

    return metric


def sensitivity_at(threshold: float) -> Metric:
    """Return the metric "sensitivity at ``threshold``", None without malignant lesions."""
    return metric_at_threshold(threshold, lambda calls: calls.sensitivity)


def specificity_at(threshold: float) -> Metric:
    """Return the metric "specificity at ``threshold``", None without benign lesions."""
    return metric_at_threshold(threshold, lambda calls: calls.specificity)


def _share(part: float, rest: float) -> float | None:
    return part / (part + rest) if part + rest else None
