"""Score histogram of patients: every patient counts once, so that Gaussian noise makes it differentially private.

Formal guarantee: within one role (validation or test) each lesion weighs 1 / (number of that patient's lesions in the
role). Provided that a patient has one role and stands at one site, adding or removing one patient moves the (role,
class, bin) vector by 1 in L1 norm (up to float64 rounding), so by at most 1 in L2 norm. With independent N(0, std^2)
noise on every cell of both roles, one release is the Gaussian mechanism with l2_sensitivity 1 and noise multiplier std
(Dwork and Roth 2014, Appendix A). All that is computed from a released histogram costs no further privacy, the rounding
to ``GRID`` too. It takes away the last bits, by which somebody could tell what a generator's noise was added to.

For example, a patient with three lesions puts one third into the bin of each of the three scores.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shared_model.metrics.counts import FloatArray
from shared_model.metrics.score_histogram import binned_scores, require_bins, require_equal_bins

MAX_MAGNITUDE = 1e9
"""Largest magnitude of a count and of its noise: above any cohort, and small enough that no product overflows."""

GRID = 2.0**-20
"""Counts with noise are multiples of it: about a millionth of a patient, and 10^8 floating-point numbers of noise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PatientHistogram:
    """Patients by class and score in ``B`` equal bins over [0, 1], the bins of ``ScoreHistogram``.

    Histograms of different sites can be added.

    A patient with several lesions is counted in equal parts, one part for each lesion. With noise, counts may be
    negative; without noise they may not.
    """

    negatives: FloatArray
    """``(B,)``, float64, finite: benign, in patients."""
    positives: FloatArray
    """``(B,)``, float64, finite: malignant, in patients."""
    noise_std: float
    """Standard deviation of the independent Gaussian noise of each count, >= 0, in patients."""

    def __post_init__(self) -> None:
        require_bins(self.negatives, self.positives)
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
    ) -> "PatientHistogram":
        """Count each patient once, without noise; without lesions all counts are 0.

        Args:
            labels: ``(N,)``, 0 (benign) or 1 (malignant).
            scores: ``(N,)``, in [0, 1].
            patients: ``(N,)``; equal entries are the same patient. All lesions that these patients have in their role.
            num_bins: ``B`` >= 1.

        Raises:
            ValueError: an argument is out of bounds, or lengths differ.
        """
        is_malignant, bins = binned_scores(labels, scores, num_bins)
        patient_ids = np.asarray(patients)
        if patient_ids.shape != bins.shape:
            raise ValueError(f"Expected patients of shape {patient_ids.shape} to be as scores of shape {bins.shape}.")
        _, patient_of_lesion, num_lesions = np.unique(patient_ids, return_inverse=True, return_counts=True)
        weights = 1 / num_lesions[patient_of_lesion]
        return cls(
            negatives=np.bincount(bins[~is_malignant], weights[~is_malignant], minlength=num_bins).astype(np.float64),
            positives=np.bincount(bins[is_malignant], weights[is_malignant], minlength=num_bins).astype(np.float64),
            noise_std=0.0,
        )

    def with_noise(self, noise: FloatArray, std: float) -> "PatientHistogram":
        """Return the histogram with ``noise`` added: row 0 to the negatives, row 1 to the positives.

        Sums are rounded to multiples of ``GRID``. Of the numbers that a generator of noise can give, in float64, few
        lie at a given distance from a number with all its bits: the exact count would show (Mironov 2012).

        Args:
            noise: ``(2, B)``, float64, independent draws of N(0, ``std``^2), never used elsewhere.
            std: > 0, in patients: the standard deviation that ``noise`` has, not a factor to apply.

        Raises:
            ValueError: an argument is out of bounds.
        """
        if noise.shape != (2, self.num_bins) or noise.dtype != np.float64:
            raise ValueError(f"Expected noise of {noise.shape}, {noise.dtype} == (2, {self.num_bins}), float64.")
        if not 0 < std <= MAX_MAGNITUDE:
            raise ValueError(f"Expected std={std} in (0, {MAX_MAGNITUDE:g}].")
        return PatientHistogram(
            negatives=_on_grid(self.negatives + noise[0]),
            positives=_on_grid(self.positives + noise[1]),
            noise_std=math.hypot(self.noise_std, std),
        )

    def scaled(self, factor: float) -> "PatientHistogram":
        """Return the histogram with all counts, and their noise, times ``factor`` > 0."""
        return PatientHistogram(
            negatives=self.negatives * factor, positives=self.positives * factor, noise_std=self.noise_std * factor
        )

    def __add__(self, other: "PatientHistogram") -> "PatientHistogram":
        require_equal_bins(self.num_bins, other.num_bins)
        return PatientHistogram(
            negatives=self.negatives + other.negatives,
            positives=self.positives + other.positives,
            noise_std=math.hypot(self.noise_std, other.noise_std),
        )

    @property
    def num_bins(self) -> int:
        """Number of bins."""
        return len(self.negatives)


def _on_grid(counts: FloatArray) -> FloatArray:
    rounded: FloatArray = np.rint(counts / GRID) * GRID
    return rounded
