"""Calibration and net benefit: scores read as probabilities, in [0, 1].

Scores are calibrated if of all lesions with a score of 0.3 about 30 % are malignant. Net benefit weighs cancers found
against needless work-ups, so it tells whether acting on the scores is worth more than treating nobody or everybody.
"""

from dataclasses import dataclass

import numpy as np

from shared_model.metrics.confusion import StackedCalls
from shared_model.metrics.counts import ClassCounts, FloatArray, IntArray, Metric, StackedCounts

NUM_BINS = 10
"""Equal bins of the reliability curve; bin ``b`` holds the scores in ``[b / 10, (b + 1) / 10)``, the last also 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReliabilityCurve:
    """Lesions by predicted probability, in the ``B`` bins that hold any."""

    predicted: FloatArray
    """``(B,)``, ascending: mean score."""
    num_positives: IntArray
    """``(B,)``: malignant lesions."""
    num_lesions: IntArray
    """``(B,)``, >= 1."""

    @property
    def observed(self) -> FloatArray:
        """Share of malignant lesions, ``(B,)``."""
        return self.num_positives / self.num_lesions


def reliability_curve(counts: ClassCounts, num_bins: int = NUM_BINS) -> ReliabilityCurve:
    """Return predicted and observed shares of malignant lesions in equal bins of the score.

    Raises:
        ValueError: a score is not in [0, 1], or ``num_bins`` < 1.
    """
    if num_bins < 1:
        raise ValueError(f"Expected num_bins={num_bins} >= 1.")
    ((num_lesions,), (summed,), (num_positives,)) = _bin_sums(counts.stacked, num_bins)
    is_filled = num_lesions > 0
    return ReliabilityCurve(
        predicted=summed[is_filled] / num_lesions[is_filled],
        num_positives=num_positives[is_filled].astype(np.int64),
        num_lesions=num_lesions[is_filled].astype(np.int64),
    )


@Metric
def expected_calibration_error(counts: StackedCounts) -> FloatArray:
    """Return the mean distance of predicted from observed share over ``NUM_BINS`` equal bins, weighted by lesions.

    Source: Naeini, Cooper and Hauskrecht 2015, AAAI. It depends on the bins and is too large in small samples.

    Raises:
        ValueError: a score is not in [0, 1].
    """
    num_lesions, summed, num_positives = _bin_sums(counts, NUM_BINS)
    return np.abs(summed - num_positives).sum(axis=1) / num_lesions.sum(axis=1)  # type: ignore[no-any-return]


@Metric
def brier_score(counts: StackedCounts) -> FloatArray:
    """Return the mean squared distance of score and label (Brier 1950).

    Always answering the prevalence ``p`` gives p (1 - p).

    Raises:
        ValueError: a score is not in [0, 1].
    """
    scores = _probabilities(counts)
    squared = np.vecdot(counts.negatives, scores**2) + np.vecdot(counts.positives, (1 - scores) ** 2)
    return squared / (counts.num_negatives + counts.num_positives)  # type: ignore[no-any-return]


def net_benefit(threshold: float, prevalence: float | None = None) -> Metric:
    """Return the metric "net benefit of treating every lesion whose score is at least ``threshold``".

    It is the share of true positives less that of false positives, the latter weighted by the odds of the threshold:
    whoever treats from a risk of ``t`` upwards thinks a missed cancer ``(1 - t) / t`` times as bad as a needless
    work-up. Treating nobody is worth 0. Source: Vickers and Elkin 2006, Medical Decision Making 26:565.

    Args:
        threshold: in (0, 1).
        prevalence: as in ``ConfusionCounts.ppv``. The best net benefit is the prevalence.

    Raises:
        ValueError: the threshold is out of bounds.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"Expected threshold={threshold} in (0, 1).")
    odds = threshold / (1 - threshold)

    @Metric
    def metric(counts: StackedCounts) -> FloatArray:
        """Weigh true and false positives."""
        calls, (benign, malignant) = (
            StackedCalls.from_counts(counts, threshold),
            (counts.num_negatives, counts.num_positives),
        )
        share = malignant / (benign + malignant) if prevalence is None else prevalence
        return calls.tp / malignant * share - calls.fp / benign * (1 - share) * odds

    return metric


def net_benefit_of_treating_all(threshold: float, prevalence: float) -> float:
    """Return the net benefit of treating every lesion; arguments as ``net_benefit``.

    >>> round(net_benefit_of_treating_all(0.2, prevalence=0.5), 3)
    0.375
    """
    return prevalence - (1 - prevalence) * threshold / (1 - threshold)


def _bin_sums(counts: StackedCounts, num_bins: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the lesions, the sum of their scores, and the malignant ones of every bin, ``(R, num_bins)`` each."""
    scores = _probabilities(counts)
    bins = np.searchsorted(np.arange(num_bins) / num_bins, scores, side="right") - 1
    is_in_bin = np.eye(num_bins)[bins]
    total = counts.negatives + counts.positives
    return total @ is_in_bin, (total * scores) @ is_in_bin, counts.positives @ is_in_bin


def _probabilities(counts: StackedCounts) -> FloatArray:
    if counts.scores[0] < 0 or counts.scores[-1] > 1:
        raise ValueError(f"Expected scores in [0, 1], got [{counts.scores[0]}, {counts.scores[-1]}].")
    return counts.scores
