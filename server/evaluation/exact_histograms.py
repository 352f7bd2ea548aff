"""Metrics of exact score histograms, the kind that sites send with ``evaluation.privacy=exact``.

A histogram holds the bin of each score, not the score. So a threshold must be the edge of a bin, and the AUROC comes
with a bound on how far binning can have moved it.
"""

import numpy as np

from shared_model.metrics.confusion import ConfusionCounts
from shared_model.metrics.roc import auroc_from_counts
from shared_model.metrics.score_histogram import ScoreHistogram, lower_edges


def auroc(histogram: ScoreHistogram) -> float | None:
    """Return the AUROC, in which a pair inside one bin counts one half; None where one class is missing."""
    counts = histogram.class_counts
    return auroc_from_counts(counts) if counts.has_both_classes else None


def auroc_binning_bound(histogram: ScoreHistogram) -> float | None:
    """Return how far ``auroc`` can be from the AUROC of the scores, at most; None where one class is missing.

    A pair inside one bin counts one half and may in truth count 0 or 1; all other pairs are counted exactly.
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
    return float(lower_edges(histogram.num_bins)[np.flatnonzero(sensitivity >= target_sensitivity)[-1]])


def confusion_counts(histogram: ScoreHistogram, threshold: float) -> ConfusionCounts:
    """Count the calls ``score >= threshold``; exact, because the threshold must be the lower edge of a bin.

    Raises:
        ValueError: ``threshold`` lies inside a bin, where the histogram cannot tell the calls apart.
    """
    counts = histogram.class_counts
    if threshold not in counts.scores:
        raise ValueError(f"Expected threshold={threshold} at the lower edge of one of {histogram.num_bins} bins.")
    return ConfusionCounts.from_counts(counts, threshold)
