"""Score histograms in which every patient counts once, and what can be read from them under Gaussian noise.

Formal guarantee: within one role (validation or test) each lesion weighs 1 / (number of that patient's lesions in the
role). Provided that a patient has one role and stands at one site, adding or removing one patient moves the (role,
class, bin) vector by 1 in L1 norm (up to float64 rounding), so by at most 1 in L2 norm. With independent N(0, std^2)
noise on every cell of both roles, one release is the Gaussian mechanism with l2_sensitivity 1 and noise multiplier std
(Dwork and Roth 2014, Appendix A). All that is computed from a released histogram costs no further privacy.

Noise reaches every bin, empty or not, and may make counts negative. The estimators below are linear in the counts and
divided by estimated totals: without bias to first order, with a standard error in closed form. Projections onto
possible counts (cut at 0, onto the simplex, monotone cumulative counts) vary less, but pull the AUROC towards 1/2 the
more the noisier the bins are, and have no such standard error.

Standard errors speak of the privacy noise alone, given the patients; that other patients would give other figures is
not in them.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared_model.metrics.counts import ScoreHistogram

FloatArray = NDArray[np.float64]

MAX_MAGNITUDE = 1e9
"""Largest magnitude of a count and of its noise: beyond any cohort, and no product of counts overflows."""
MIN_TOTAL_TO_NOISE = 3.0
"""A class is there if its estimated total exceeds so many standard deviations of the total's noise, and 0.

A class without patients passes with probability 0.0013 (one-sided normal tail).
"""
MARGIN_QUANTILE = 1.6449
"""One-sided 95 % normal quantile, rounded up: how surely a threshold reaches its target sensitivity."""
_ROUNDING = 1e-9
"""Patients by which sums of thirds and sevenths may miss a target that they meet exactly."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedHistogram:
    """Patients by class and score in ``B`` equal bins over [0, 1], binned as by ``ScoreHistogram``; sites add up.

    A patient with lesions in several bins or of both classes is spread over them in equal parts per lesion. With
    noise, counts may be negative; without, they may not.
    """

    negatives: FloatArray
    """``(B,)``, float64, finite: benign, in patients."""
    positives: FloatArray
    """``(B,)``, float64, finite: malignant, in patients."""
    noise_std: float
    """Standard deviation of the independent Gaussian noise of each count, >= 0, in patients."""

    def __post_init__(self) -> None:
        if self.negatives.ndim != 1 or self.negatives.shape != self.positives.shape or not len(self.negatives):
            raise ValueError(
                f"Expected negatives of shape {self.negatives.shape} and positives of shape {self.positives.shape} "
                "to be the same (num_bins,) with num_bins >= 1."
            )
        if not 0 <= self.noise_std <= MAX_MAGNITUDE:
            raise ValueError(f"Expected noise_std={self.noise_std} in [0, {MAX_MAGNITUDE:g}].")
        for name, counts in (("negatives", self.negatives), ("positives", self.positives)):
            if counts.dtype != np.float64:
                raise ValueError(f"Expected {name} of float64, got {counts.dtype}.")
            # Written so that NaN fails too.
            if not np.abs(counts).max() <= MAX_MAGNITUDE:
                raise ValueError(f"Expected {name} finite and within +-{MAX_MAGNITUDE:g}.")
            if not self.noise_std and counts.min() < 0:
                raise ValueError(f"Expected {name} >= 0 without noise, got {counts.min()}.")

    @classmethod
    def from_scores(
        cls, labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, num_bins: int
    ) -> "WeightedHistogram":
        """Count each patient once, without noise; no lesions at all give an empty histogram.

        Args:
            labels: ``(N,)``, 0 (benign) or 1 (malignant).
            scores: ``(N,)``, in [0, 1].
            patients: ``(N,)``; equal entries are the same patient. These are all lesions of the patients' one role.
            num_bins: ``B`` >= 1.

        Raises:
            ValueError: an argument is out of bounds, or lengths differ.
        """
        # The plain histogram checks labels, scores and num_bins, and owns the edges.
        lower_edges = ScoreHistogram.from_scores(labels, scores, num_bins).class_counts.scores
        is_malignant, values, owners = np.asarray(labels) == 1, np.asarray(scores), np.asarray(patients)
        if owners.shape != values.shape:
            raise ValueError(f"Expected patients of shape {owners.shape} to be as scores of shape {values.shape}.")
        _, owner_of, num_lesions = np.unique(owners, return_inverse=True, return_counts=True)
        weights = 1 / num_lesions[owner_of]
        bins = np.searchsorted(lower_edges, values, side="right") - 1
        return cls(
            negatives=np.bincount(bins[~is_malignant], weights[~is_malignant], minlength=num_bins).astype(np.float64),
            positives=np.bincount(bins[is_malignant], weights[is_malignant], minlength=num_bins).astype(np.float64),
            noise_std=0.0,
        )

    def with_noise(self, noise: FloatArray, std: float) -> "WeightedHistogram":
        """Return the histogram with ``noise`` added: row 0 to the negatives, row 1 to the positives.

        Args:
            noise: ``(2, B)``, float64, independent draws of N(0, ``std``^2), never used elsewhere.
            std: > 0, in patients; already the scale of ``noise``, which is not multiplied by it.

        Raises:
            ValueError: an argument is out of bounds.
        """
        if noise.shape != (2, self.num_bins) or noise.dtype != np.float64:
            raise ValueError(f"Expected noise of {noise.shape}, {noise.dtype} == (2, {self.num_bins}), float64.")
        if not 0 < std <= MAX_MAGNITUDE:
            raise ValueError(f"Expected std={std} in (0, {MAX_MAGNITUDE:g}].")
        return WeightedHistogram(
            negatives=self.negatives + noise[0],
            positives=self.positives + noise[1],
            noise_std=math.hypot(self.noise_std, std),
        )

    def __add__(self, other: "WeightedHistogram") -> "WeightedHistogram":
        if self.num_bins != other.num_bins:
            raise ValueError(f"Expected histograms of as many bins, got {self.num_bins} and {other.num_bins}.")
        return WeightedHistogram(
            negatives=self.negatives + other.negatives,
            positives=self.positives + other.positives,
            noise_std=math.hypot(self.noise_std, other.noise_std),
        )

    @property
    def num_bins(self) -> int:
        """Number of bins."""
        return len(self.negatives)

    @property
    def lower_edges(self) -> FloatArray:
        """``(B,)``: the scores at which the bins begin, from 0."""
        return np.arange(self.num_bins) / self.num_bins


@dataclass(frozen=True, kw_only=True)
class AurocError:
    """What stands between ``auroc`` of a histogram and the AUROC of the scores themselves."""

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
    """Sensitivity and specificity of "malignant from this score on"; None where the class drowns in the noise."""

    sensitivity: RateEstimate | None
    specificity: RateEstimate | None


def auroc(histogram: WeightedHistogram) -> float | None:
    """Return the patient-weighted AUROC in [0, 1], pairs inside a bin counted one half.

    The numerator, the weight of the pairs in which the malignant lesion scores above the benign one, is bilinear in
    counts whose noises are independent, so its estimate is unbiased; it is divided by the estimated totals and cut to
    [0, 1]. None unless the total of each class exceeds ``MIN_TOTAL_TO_NOISE`` times its noise, ``noise_std`` sqrt(B).
    """
    if not (_is_discernible(histogram.negatives, histogram) and _is_discernible(histogram.positives, histogram)):
        return None
    benign_below = _shares_below(histogram.negatives)
    return _cut(histogram.positives @ benign_below / histogram.positives.sum(), 1.0)


def auroc_error(histogram: WeightedHistogram) -> AurocError | None:
    """Return the error of ``auroc``; None where that is None.

    The standard error is that of the first-order expansion (delta method) of U / (P N), at the noisy counts: with
    G(b) the share of benign weight below bin b (half of its own) and H(b) that of malignant weight above,
    std^2 [sum_b (G(b) - AUROC)^2 / P^2 + sum_b (H(b) - AUROC)^2 / N^2]. At noisy counts both sums come out too large
    on average, by about twice what the expansion leaves out: the error is rather over- than understated.
    """
    value = auroc(histogram)
    if value is None:
        return None
    num_benign, num_malignant = histogram.negatives.sum(), histogram.positives.sum()
    malignant_influence = (_shares_below(histogram.negatives) - value) / num_malignant
    benign_influence = (_shares_below(histogram.positives[::-1])[::-1] - value) / num_benign
    return AurocError(
        binning_bound=_cut(0.5 * (histogram.negatives @ histogram.positives) / (num_benign * num_malignant), 0.5),
        noise_standard_error=histogram.noise_std
        * math.sqrt(malignant_influence @ malignant_influence + benign_influence @ benign_influence),
    )


def sensitivity_specificity(histogram: WeightedHistogram, threshold: float) -> OperatingPoint:
    """Return patient-weighted sensitivity and specificity of the calls ``score >= threshold``.

    Each is a sum of bins over the estimated total of its class, cut to [0, 1], with the delta-method standard error.
    One is None unless the total of its class exceeds ``MIN_TOTAL_TO_NOISE`` times that total's noise.

    Raises:
        ValueError: ``threshold`` is not the lower edge of a bin, where alone the calls can be told apart.
    """
    if threshold not in histogram.lower_edges:
        raise ValueError(f"Expected threshold={threshold} at the lower edge of one of {histogram.num_bins} bins.")
    is_called = histogram.lower_edges >= threshold
    return OperatingPoint(
        sensitivity=_share_in(is_called, histogram.positives, histogram),
        specificity=_share_in(~is_called, histogram.negatives, histogram),
    )


def threshold_for_sensitivity(histogram: WeightedHistogram, target_sensitivity: float) -> float | None:
    """Return the highest lower bin edge, in [0, 1), that surely reaches ``target_sensitivity``.

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
    return float(histogram.lower_edges[max(num_passed - 1, 0)])


def _is_discernible(counts: FloatArray, histogram: WeightedHistogram) -> bool:
    total_std = histogram.noise_std * math.sqrt(histogram.num_bins)
    return bool(counts.sum() > MIN_TOTAL_TO_NOISE * total_std)


def _shares_below(counts: FloatArray) -> FloatArray:
    """Return ``(B,)``: the share of ``counts`` in lower bins, and half of that in the bin itself."""
    shares: FloatArray = (np.cumsum(counts) - counts / 2) / counts.sum()
    return shares


def _share_in(is_counted: NDArray[np.bool_], counts: FloatArray, histogram: WeightedHistogram) -> RateEstimate | None:
    if not _is_discernible(counts, histogram):
        return None
    total = counts.sum()
    value = _cut(counts[is_counted].sum() / total, 1.0)
    influence = (is_counted - value) / total
    return RateEstimate(value=value, standard_error=histogram.noise_std * math.sqrt(influence @ influence))


def _cut(value: float, high: float) -> float:
    return min(max(float(value), 0.0), high)
