"""Metrics from score histograms, the sites' counts of benign and malignant lesions per score bin.

The server has no lesions of the sites, but histograms add up: the AUROC of all sites' lesions together follows from
the sum of their histograms, to within what the width of a bin leaves open. Histograms are exact or carry privacy noise;
both kinds have the same functions here.
"""

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from server.evaluation import exact_histograms, noisy_histograms
from shared_model.errors import CohortError
from shared_model.messages import Histogram
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.privacy.patient_histogram import PatientHistogram

Kind = TypeVar("Kind", bound=Histogram)


@dataclass(frozen=True, kw_only=True)
class HistogramAuroc:
    """AUROC of the lesions in a histogram, and by how much it may be off."""

    value: float
    """In [0, 1]; every lesion counts once in exact histograms, every patient once in noisy ones."""
    binning_bound: float
    """The most by which binning can have moved it; itself an estimate under noise."""
    noise_standard_error: float
    """0 for exact histograms."""


def sum_histograms(histograms: Sequence[Kind]) -> Kind:
    """Return the sum of at least one histogram, all of one kind and with the same bins."""
    return functools.reduce(operator.add, histograms)


def histogram_auroc(histogram: Histogram) -> HistogramAuroc | None:
    """Return the AUROC; None where a class has no lesions, or where noise hides them."""
    if isinstance(histogram, ScoreHistogram):
        exact = exact_histograms.auroc(histogram)
        bound = exact_histograms.auroc_binning_bound(histogram)
        if exact is None or bound is None:
            return None
        return HistogramAuroc(value=exact, binning_bound=bound, noise_standard_error=0.0)
    value, uncertainty = noisy_histograms.auroc(histogram), noisy_histograms.auroc_uncertainty(histogram)
    if value is None or uncertainty is None:
        return None
    return HistogramAuroc(
        value=value,
        binning_bound=uncertainty.binning_bound,
        noise_standard_error=uncertainty.noise_standard_error,
    )


def operating_threshold(histogram: Histogram, target_sensitivity: float) -> float | None:
    """Return a bin edge that reaches the sensitivity on these patients; None without any, or where noise hides them.

    Raises:
        CohortError: an exact histogram of benign lesions alone.
    """
    if isinstance(histogram, PatientHistogram):
        return noisy_histograms.threshold_for_sensitivity(histogram, target_sensitivity)
    if not histogram.num_lesions:
        return None
    if not histogram.positives.any():
        raise CohortError("Expected a malignant lesion among the sites' validation patients, got none.")
    return exact_histograms.threshold_for_sensitivity(histogram, target_sensitivity)


def sensitivity_specificity(histogram: Histogram, threshold: float) -> tuple[float | None, float | None]:
    """Return sensitivity and specificity at ``threshold``; None without that class, or hidden by noise.

    With exact counts the threshold must be the lower edge of a bin.
    """
    if isinstance(histogram, ScoreHistogram):
        counts = exact_histograms.confusion_counts(histogram, threshold)
        return counts.sensitivity, counts.specificity
    rates = noisy_histograms.sensitivity_specificity(histogram, threshold)
    return (
        None if rates.sensitivity is None else rates.sensitivity.value,
        None if rates.specificity is None else rates.specificity.value,
    )
