"""Metrics of patient histograms with Gaussian noise, the kind that sites send with ``evaluation.privacy=dp``.

Noise reaches every bin, empty or not, and may make counts negative. The estimators below are linear in the counts and
divided by estimated totals: without bias to first order, with a standard error in closed form. Projections onto
possible counts (cut at 0, onto the simplex, monotone cumulative counts) vary less, but pull the AUROC towards 1/2, the
more the noisier the bins are, and have no such standard error.

A standard error here is that of the privacy noise alone. That other patients would give other values is not in it.
"""

import math
from dataclasses import dataclass

import numpy as np

from shared_model.metrics.counts import FloatArray
from shared_model.metrics.score_histogram import lower_edges
from shared_model.privacy.patient_histogram import PatientHistogram

MIN_TOTAL_TO_NOISE = 3.0
"""A class counts as present if its estimated total exceeds so many standard deviations of the total's noise, and 0.

A class without patients is taken for present with probability 0.0013 (one-sided normal tail).
"""
MARGIN_QUANTILE = 1.6449
"""One-sided 95 % normal quantile, rounded up: a threshold reaches its target sensitivity with this confidence."""
_ROUNDING = 1e-9
"""Rounding error, in patients, of sums of shares such as thirds: a target that is met exactly must not fail by it."""


@dataclass(frozen=True, kw_only=True)
class AurocUncertainty:
    """How far ``auroc`` of a histogram may be from the AUROC of the scores themselves."""

    binning_bound: float
    """In [0, 0.5]: half the share of pairs inside one bin, of which each counted one half and may be worth 0 or 1.

    Without noise a bound; with noise an estimate of it, cut to its range.
    """
    noise_standard_error: float
    """Standard error from the noise, >= 0; 0 without noise."""

    def __post_init__(self) -> None:
        if not 0 <= self.binning_bound <= 0.5:
            raise ValueError(f"Expected binning_bound={self.binning_bound} in [0, 0.5].")
        if not 0 <= self.noise_standard_error < math.inf:
            raise ValueError(f"Expected noise_standard_error={self.noise_standard_error} >= 0 and finite.")


@dataclass(frozen=True, kw_only=True)
class RateEstimate:
    """A share of patients read from noisy counts."""

    value: float
    """In [0, 1]."""
    standard_error: float
    """Standard error from the noise, >= 0; 0 without noise."""

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise ValueError(f"Expected value={self.value} in [0, 1].")
        if not 0 <= self.standard_error < math.inf:
            raise ValueError(f"Expected standard_error={self.standard_error} >= 0 and finite.")


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Sensitivity and specificity at one threshold; None for a class that the noise hides."""

    sensitivity: RateEstimate | None
    specificity: RateEstimate | None


def auroc(histogram: PatientHistogram) -> float | None:
    """Return the AUROC in [0, 1] with patients as weights; a pair inside one bin counts one half.

    The numerator, the weight of the pairs in which the malignant lesion scores above the benign one, is bilinear in
    counts whose noises are independent, so its estimate is unbiased; it is divided by the estimated totals and cut to
    [0, 1]. None unless the total of each class exceeds ``MIN_TOTAL_TO_NOISE`` times its noise, ``noise_std`` sqrt(B).
    """
    if not (_is_discernible(histogram.negatives, histogram) and _is_discernible(histogram.positives, histogram)):
        return None
    benign_below = _shares_below(histogram.negatives)
    return _cut(histogram.positives @ benign_below / histogram.positives.sum(), 1.0)


def auroc_uncertainty(histogram: PatientHistogram) -> AurocUncertainty | None:
    """Return the uncertainty of ``auroc``; None where that is None.

    The standard error is that of the first-order expansion (delta method) of U / (P N), at the noisy counts: with
    G(b) the share of benign weight below bin b (half of its own) and H(b) that of malignant weight above,
    std^2 [sum_b (G(b) - AUROC)^2 / P^2 + sum_b (H(b) - AUROC)^2 / N^2]. At noisy counts both sums are too large
    on average, by about twice what the expansion leaves out, so the error is stated too large rather than too small.
    """
    value = auroc(histogram)
    if value is None:
        return None
    num_benign, num_malignant = histogram.negatives.sum(), histogram.positives.sum()
    malignant_influence = (_shares_below(histogram.negatives) - value) / num_malignant
    benign_influence = (_shares_below(histogram.positives[::-1])[::-1] - value) / num_benign
    return AurocUncertainty(
        binning_bound=_cut(0.5 * (histogram.negatives @ histogram.positives) / (num_benign * num_malignant), 0.5),
        noise_standard_error=histogram.noise_std
        * math.sqrt(malignant_influence @ malignant_influence + benign_influence @ benign_influence),
    )


def sensitivity_specificity(histogram: PatientHistogram, threshold: float) -> OperatingPoint:
    """Return sensitivity and specificity of the calls ``score >= threshold``, with patients as weights.

    Each is a sum of bins over the estimated total of its class, cut to [0, 1], with the delta-method standard error.
    One is None unless the total of its class exceeds ``MIN_TOTAL_TO_NOISE`` times that total's noise. Inside a bin
    scores are taken to lie evenly: of the bin that holds the threshold the part above it counts.

    Raises:
        ValueError: ``threshold`` is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"Expected threshold={threshold} in [0, 1].")
    upper_edges = lower_edges(histogram.num_bins) + 1 / histogram.num_bins
    share_called = np.clip((upper_edges - threshold) * histogram.num_bins, 0.0, 1.0)
    return OperatingPoint(
        sensitivity=_share_of(share_called, histogram.positives, histogram),
        specificity=_share_of(1 - share_called, histogram.negatives, histogram),
    )


def threshold_for_sensitivity(histogram: PatientHistogram, target_sensitivity: float) -> float | None:
    """Return the highest lower bin edge, in [0, 1), that reaches ``target_sensitivity`` with 95 % confidence.

    Edges are tried upwards from 0, where the sensitivity is 1, until one fails. An edge passes if (malignant weight
    from it on) - target * (all malignant weight) exceeds ``MARGIN_QUANTILE`` standard deviations of its noise, which
    is exactly Gaussian. The true sensitivity falls with the edge and testing stops at the first failure, so the edge
    returned misses the target on these patients with probability at most 5 % (fixed-sequence testing: Maurer et al.
    1995). Strong noise leads to a low threshold, at worst 0, and to a low specificity. Without noise it is the highest
    edge that reaches the target.

    None where the malignant total does not exceed ``MIN_TOTAL_TO_NOISE`` times its noise.

    Raises:
        ValueError: the target is not in (0, 1].
    """
    if not 0 < target_sensitivity <= 1:
        raise ValueError(f"Expected target_sensitivity={target_sensitivity} in (0, 1].")
    if not _is_discernible(histogram.positives, histogram):
        return None
    num_called_bins = np.arange(histogram.num_bins, 0, -1)
    excess = np.cumsum(histogram.positives[::-1])[::-1] - target_sensitivity * histogram.positives.sum()
    excess_std = histogram.noise_std * np.sqrt(
        num_called_bins * (1 - target_sensitivity) ** 2 + (histogram.num_bins - num_called_bins) * target_sensitivity**2
    )
    fails = excess < MARGIN_QUANTILE * excess_std - _ROUNDING
    num_passed = int(np.argmax(fails)) if fails.any() else histogram.num_bins
    # The edge 0 needs no test: every score reaches it.
    return float(lower_edges(histogram.num_bins)[max(num_passed - 1, 0)])


def _is_discernible(counts: FloatArray, histogram: PatientHistogram) -> bool:
    total_std = histogram.noise_std * math.sqrt(histogram.num_bins)
    return bool(counts.sum() > MIN_TOTAL_TO_NOISE * total_std)


def _shares_below(counts: FloatArray) -> FloatArray:
    """Return ``(B,)``: the share of ``counts`` in lower bins, and half of that in the bin itself."""
    shares: FloatArray = (np.cumsum(counts) - counts / 2) / counts.sum()
    return shares


def _share_of(weights: FloatArray, counts: FloatArray, histogram: PatientHistogram) -> RateEstimate | None:
    if not _is_discernible(counts, histogram):
        return None
    total = counts.sum()
    value = _cut(weights @ counts / total, 1.0)
    influence = (weights - value) / total
    return RateEstimate(value=value, standard_error=histogram.noise_std * math.sqrt(influence @ influence))


def _cut(value: float, high: float) -> float:
    return min(max(float(value), 0.0), high)
