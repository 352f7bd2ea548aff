"""The confusion matrix at one threshold, and the rates that follow from it.

At a threshold each lesion is called malignant (``score >= threshold``) or benign; such a decision is a call. For
example, of four malignant lesions with three called malignant the sensitivity is 0.75.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shared_model.metrics.counts import ClassCounts, FloatArray, IntArray, Metric, StackedCounts


@dataclass(frozen=True, kw_only=True, eq=False)
class StackedCalls:
    """``R`` confusion matrices and their rates, NaN where ``ConfusionCounts`` has None."""

    tp: IntArray
    """``(R,)``, and so the others."""
    fp: IntArray
    tn: IntArray
    fn: IntArray

    @classmethod
    def from_counts(cls, counts: StackedCounts, threshold: float) -> "StackedCalls":
        """Count the calls at ``threshold``.

        Raises:
            ValueError: the threshold is NaN.
        """
        if np.isnan(threshold):
            raise ValueError(f"Expected threshold={threshold} to be a number.")
        first = np.searchsorted(counts.scores, threshold)
        return cls(
            tp=counts.positives[:, first:].sum(axis=1),
            fp=counts.negatives[:, first:].sum(axis=1),
            tn=counts.negatives[:, :first].sum(axis=1),
            fn=counts.positives[:, :first].sum(axis=1),
        )

    @property
    def sensitivity(self) -> FloatArray:
        """As ``ConfusionCounts.sensitivity``, and so the others."""
        return _share(self.tp, self.fn)

    @property
    def specificity(self) -> FloatArray:
        """Share of the benign lesions that are called benign."""
        return _share(self.tn, self.fp)

    @property
    def balanced_accuracy(self) -> FloatArray:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def f1(self) -> FloatArray:
        """Harmonic mean of PPV and sensitivity."""
        return _share(2 * self.tp, self.fp + self.fn)

    def ppv(self, prevalence: float | None = None) -> FloatArray:
        """Return the positive predictive values."""
        if prevalence is None:
            return _share(self.tp, self.fp)
        return _share(self.sensitivity * prevalence, (1 - self.specificity) * (1 - prevalence))

    def npv(self, prevalence: float | None = None) -> FloatArray:
        """Return the negative predictive values."""
        if prevalence is None:
            return _share(self.tn, self.fn)
        return _share(self.specificity * (1 - prevalence), (1 - self.sensitivity) * prevalence)


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
        calls = StackedCalls.from_counts(counts.stacked, threshold)
        return cls(tp=int(calls.tp[0]), fp=int(calls.fp[0]), tn=int(calls.tn[0]), fn=int(calls.fn[0]))

    @property
    def sensitivity(self) -> float | None:
        """Share of the malignant lesions that are called malignant; None without malignant lesions."""
        return _value(self._stacked.sensitivity)

    @property
    def specificity(self) -> float | None:
        """Share of the benign lesions that are called benign; None without benign lesions."""
        return _value(self._stacked.specificity)

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of sensitivity and specificity; None without both classes."""
        return _value(self._stacked.balanced_accuracy)

    @property
    def f1(self) -> float | None:
        """F1 score: harmonic mean of PPV and sensitivity; None where no lesion is malignant or called malignant."""
        return _value(self._stacked.f1)

    def ppv(self, prevalence: float | None = None) -> float | None:
        """Return the share of malignant lesions among those called malignant (positive predictive value).

        Args:
            prevalence: share of malignant lesions, in (0, 1), where the model would be used: sensitivity and
                specificity are carried over by Bayes' rule. None takes these lesions as they are.

        Returns:
            None where nothing is called malignant, or with a prevalence and without both classes.
        """
        return _value(self._stacked.ppv(prevalence))

    def npv(self, prevalence: float | None = None) -> float | None:
        """Return the share of benign lesions among those called benign; arguments and None as for ``ppv``."""
        return _value(self._stacked.npv(prevalence))

    @property
    def _stacked(self) -> StackedCalls:
        tp, fp, tn, fn = np.array([[self.tp], [self.fp], [self.tn], [self.fn]])
        return StackedCalls(tp=tp, fp=fp, tn=tn, fn=fn)


def metric_at_threshold(threshold: float, rate: Callable[[StackedCalls], FloatArray]) -> Metric:
    """Return the metric that takes ``rate`` of the calls at ``threshold``."""
    return Metric(lambda counts: rate(StackedCalls.from_counts(counts, threshold)))


def sensitivity_at(threshold: float) -> Metric:
    """Return the metric "sensitivity at ``threshold``", None without malignant lesions."""
    return metric_at_threshold(threshold, lambda calls: calls.sensitivity)


def specificity_at(threshold: float) -> Metric:
    """Return the metric "specificity at ``threshold``", None without benign lesions."""
    return metric_at_threshold(threshold, lambda calls: calls.specificity)


def _share(part: FloatArray | IntArray, rest: FloatArray | IntArray) -> FloatArray:
    """Return the share of ``part`` in both, NaN where there is nothing."""
    whole = part + rest
    shares = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=shares, where=whole != 0)
    return shares


def _value(rates: FloatArray) -> float | None:
    return None if np.isnan(rates[0]) else float(rates[0])
