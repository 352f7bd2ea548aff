"""DeLong's method: the AUROC with its variance in closed form, and the comparison of two models on the same lesions.

DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837. Lesions of one patient are treated as a cluster after
Obuchowski 1997, Biometrics 53:567; with one lesion a patient both methods are the same. Computed from mid-ranks, in
O(N log N).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from shared_model.metrics.counts import ClassCounts, FloatArray, check_scores
from shared_model.metrics.intervals import CONFIDENCE_LEVEL, ConfidenceInterval


@dataclass(frozen=True, kw_only=True, eq=False)
class Aurocs:
    """AUROCs of ``M`` models on the same lesions."""

    values: FloatArray
    """``(M,)``, in [0, 1]."""
    covariance: FloatArray
    """``(M, M)``; 0 for a model that separates the classes without error."""

    def interval(self, model: int = 0) -> ConfidenceInterval:
        """Return the normal interval of one model's AUROC at ``CONFIDENCE_LEVEL``, cut to [0, 1]."""
        value, half_width = self.values[model], _normal_quantile() * math.sqrt(self.covariance[model, model])
        return ConfidenceInterval(low=max(0.0, value - half_width), high=min(1.0, value + half_width))


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """How much larger the first model's AUROC is than the second's."""

    difference: float
    interval: ConfidenceInterval
    p_value: float | None
    """Two-sided; None where the difference has no variance, as between equal rankings."""


def aurocs(labels: ArrayLike, scores: Sequence[ArrayLike], patients: ArrayLike | None = None) -> Aurocs:
    """Return the AUROC of every model and their covariance.

    >>> aurocs([0, 0, 1, 1], [[0.1, 0.4, 0.35, 0.8]]).values.tolist()
    [0.75]

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: one ``(N,)`` for every model, finite.
        patients: ``(N,)``, equal entries are the same patient; None takes lesions to be independent.

    Raises:
        ValueError: fewer than two patients with a lesion of one class, or arrays that do not fit together.
    """
    is_malignant = check_scores(labels, scores[0])[0]
    patient_ids = _patient_ids(is_malignant, patients)
    rows_of_class = {"malignant": is_malignant, "benign": ~is_malignant}
    num_patients = {name: len(np.unique(patient_ids[rows])) for name, rows in rows_of_class.items()}
    for name, number in num_patients.items():
        if number < 2:
            raise ValueError(f"Expected at least two patients with a {name} lesion, got {number}.")
    placements = np.stack([_placements(labels, model_scores) for model_scores in scores])
    values = placements[:, is_malignant].mean(axis=1)
    cluster = np.unique(patient_ids, return_inverse=True)[1]
    deviations = placements - values[:, None]
    malignant, benign = (_cluster_sums(deviations * rows, cluster) for rows in (is_malignant, ~is_malignant))
    num_malignant, num_benign = int(is_malignant.sum()), int((~is_malignant).sum())
    cross = malignant @ benign.T * _unbiased(len(np.unique(cluster))) / (num_malignant * num_benign)
    covariance = (
        malignant @ malignant.T * _unbiased(num_patients["malignant"]) / num_malignant**2
        + benign @ benign.T * _unbiased(num_patients["benign"]) / num_benign**2
        + cross
        + cross.T
    )
    # Rounding, and the cross terms of few patients, can take a variance below 0.
    np.fill_diagonal(covariance, np.maximum(np.diag(covariance), 0.0))
    return Aurocs(values=values, covariance=covariance)


def compare(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, patients: ArrayLike | None = None
) -> PairedComparison:
    """Return the difference of two models' AUROCs with its interval and p-value; arguments as ``aurocs``."""
    both = aurocs(labels, (first, second), patients)
    difference = float(both.values[0] - both.values[1])
    contrast = np.array([1.0, -1.0])
    standard_error = math.sqrt(max(0.0, contrast @ both.covariance @ contrast))
    half_width = _normal_quantile() * standard_error
    return PairedComparison(
        difference=difference,
        interval=ConfidenceInterval(low=difference - half_width, high=difference + half_width),
        p_value=float(2 * norm.sf(abs(difference) / standard_error)) if standard_error > 1e-12 else None,
    )


def _patient_ids(is_malignant: NDArray[np.bool_], patients: ArrayLike | None) -> NDArray[np.generic]:
    if patients is None:
        return np.arange(len(is_malignant))
    patient_ids: NDArray[np.generic] = np.asarray(patients)
    if patient_ids.shape != is_malignant.shape:
        raise ValueError(
            f"Expected patients of shape {patient_ids.shape} to be {is_malignant.shape}, one for every label."
        )
    return patient_ids


def _placements(labels: ArrayLike, scores: ArrayLike) -> FloatArray:
    """Return for each lesion the share of the other class that it is ranked correctly against; ties count one half."""
    ClassCounts.from_scores(labels, scores).require_both_classes()
    is_malignant, values = check_scores(labels, scores)
    ranks = rankdata(values)
    placements = np.empty(len(values))
    for rows, should_be_above in ((is_malignant, True), (~is_malignant, False)):
        share_below = (ranks[rows] - rankdata(values[rows])) / np.count_nonzero(~rows)
        placements[rows] = share_below if should_be_above else 1 - share_below
    return placements


def _cluster_sums(values: FloatArray, cluster: NDArray[np.int64]) -> FloatArray:
    return np.stack([np.bincount(cluster, weights=row) for row in values])


def _unbiased(num_clusters: int) -> float:
    return num_clusters / (num_clusters - 1)


def _normal_quantile() -> float:
    return float(norm.ppf((1 + CONFIDENCE_LEVEL) / 2))
