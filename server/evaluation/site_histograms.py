"""Figures from the sites' added score histograms, whether they are exact or carry noise."""

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

from shared_model.messages import Histogram
from shared_model.metrics import counts as metrics
from shared_model.metrics.counts import ConfusionCounts, ScoreHistogram
from shared_model.privacy import noisy_histograms as private_histograms
from shared_model.privacy.noisy_histograms import WeightedHistogram


@dataclass(frozen=True, kw_only=True)
class SiteAuroc:
    """AUROC of the sites' lesions together, and what can have moved it."""

    value: float
    """In [0, 1]; every lesion counts once in exact histograms, every patient once in noisy ones."""
    binning_bound: float
    """The most by which binning can have moved it; itself an estimate under noise."""
    noise_standard_error: float
    """0 for exact histograms."""


def added(histograms: Sequence[Histogram]) -> Histogram:
    """Return the sum of at least one histogram, all of one kind."""
    return functools.reduce(operator.add, histograms)


def site_auroc(histogram: Histogram) -> SiteAuroc | None:
    """Return the AUROC; None without both classes, or where noise hides one."""
    if isinstance(histogram, ScoreHistogram):
        exact, bound = metrics.auroc_from_histogram(histogram), metrics.auroc_binning_error(histogram)
        if exact is None or bound is None:
            return None
        return SiteAuroc(value=exact, binning_bound=bound, noise_standard_error=0.0)
    value, error = private_histograms.auroc(histogram), private_histograms.auroc_error(histogram)
    if value is None or error is None:
        return None
    return SiteAuroc(value=value, binning_bound=error.binning_bound, noise_standard_error=error.noise_standard_error)


def operating_threshold(histogram: Histogram, target_sensitivity: float) -> float | None:
    """Return a bin edge that reaches the sensitivity on these patients; None where noise hides the malignant ones.

    Raises:
        CohortError: an exact histogram without a malignant lesion.
    """
    if isinstance(histogram, WeightedHistogram):
        return private_histograms.threshold_for_sensitivity(histogram, target_sensitivity)
    return metrics.threshold_for_sensitivity(histogram, target_sensitivity)


def rates(histogram: Histogram, threshold: float) -> tuple[float | None, float | None]:
    """Return sensitivity and specificity at ``threshold``, a bin edge; None without that class, or hidden by noise."""
    if isinstance(histogram, ScoreHistogram):
        counts = ConfusionCounts.from_histogram(histogram, threshold)
        return counts.sensitivity, counts.specificity
    point = private_histograms.sensitivity_specificity(histogram, threshold)
    return (
        None if point.sensitivity is None else point.sensitivity.value,
        None if point.specificity is None else point.specificity.value,
    )
