"""Coverage of conformal sets: how often the true label is in the set of a lesion that had no part in making it.

The sets are those by which a reading abstains (``shared_model.release.conformal``). Patients are dealt to five parts;
the lesions of each part get sets that the patients of the other four have made.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.evaluation.patient_shares import Ratio, Share, patient_shares
from server.evaluation.predictions import Predictions
from shared_model.metrics.counts import FloatArray, IntArray
from shared_model.release.conformal import conformal_set
from shared_model.system.seeding import numpy_generator

DEFAULT_LEVEL = 0.9
"""Of the sets: the share of cancers, and of benign lesions, whose reading may not miss the truth."""
LEVELS = (0.8, DEFAULT_LEVEL, 0.95)
"""Shown side by side: the higher, the fewer wrong answers, and the more abstentions."""
MIN_PATIENTS = 30
"""Of a class; fewer say nothing of a coverage."""
NUM_FOLDS = 5
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class PossibleLabels:
    """Of each of ``N`` lesions, which labels the sets of other patients leave."""

    has_benign: BoolArray
    """``(N,)``."""
    has_malignant: BoolArray
    """``(N,)``."""

    @property
    def is_single(self) -> BoolArray:
        """Where one label is left, so that a reading answers: ``(N,)``."""
        return self.has_benign ^ self.has_malignant

    def holds(self, is_malignant: BoolArray) -> BoolArray:
        """Return where the set has the label ``(N,)``."""
        return (self.has_malignant & is_malignant) | (self.has_benign & ~is_malignant)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What the sets of one level reach; one lesion of each patient and class counts, the first."""

    level: float
    num_benign: int
    num_malignant: int
    coverage: Share
    """Lesions whose set has the true label, of all."""
    coverage_benign: Share
    coverage_malignant: Share
    abstained: Share
    """Lesions whose set is empty or has both labels, of all."""
    answered_right: Share | None
    """Answers that are right, of all answers; None without an answer."""


def deal_folds(patients: IntArray, generator: np.random.Generator) -> IntArray:
    """Return the part ``(N,)`` of every lesion, from 0; all lesions of a patient are in one.

    Args:
        patients: ``(N,)``; equal numbers are the same patient.
        generator: deals the patients.
    """
    _, numbers = np.unique(patients, return_inverse=True)
    dealt = generator.permutation(int(numbers.max()) + 1 if len(numbers) else 0) % NUM_FOLDS
    folds: IntArray = dealt[numbers]
    return folds


def first_lesions(labels: IntArray, patients: IntArray) -> IntArray:
    """Return the rows of the first lesion of each patient and class, ascending.

    Lesions of one patient are not exchangeable with those of others, so that only one of them may make a set.

    >>> first_lesions(np.array([0, 0, 1, 0]), np.array([7, 7, 7, 9])).tolist()
    [0, 2, 3]
    """
    _, first = np.unique(np.stack([patients, labels], axis=1), axis=0, return_index=True)
    return np.sort(first)


def possible_labels(
    labels: IntArray, scores: FloatArray, patients: IntArray, *, folds: IntArray, level: float
) -> PossibleLabels | None:
    """Return which labels are left for each lesion; None with fewer than ``MIN_PATIENTS`` of a class.

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, in [0, 1].
        patients: ``(N,)``; equal numbers are the same patient.
        folds: ``(N,)``, of ``deal_folds``.
        level: in (0, 1).
    """
    first = first_lesions(labels, patients)
    is_calibrating = np.zeros(len(labels), dtype=bool)
    is_calibrating[first] = True
    is_malignant = labels == 1
    if min(is_malignant[first].sum(), (~is_malignant[first]).sum()) < MIN_PATIENTS:
        return None
    has_benign, has_malignant = np.zeros((2, len(labels)), dtype=bool)
    for fold in np.unique(folds):
        of_others = is_calibrating & (folds != fold)
        benign, malignant = scores[of_others & ~is_malignant], scores[of_others & is_malignant]
        for row in np.flatnonzero(folds == fold):
            found = conformal_set(float(scores[row]), benign_scores=benign, malignant_scores=malignant, level=level)
            has_benign[row], has_malignant[row] = found.has_benign, found.has_malignant
    return PossibleLabels(has_benign=has_benign, has_malignant=has_malignant)


def cross_fitted_labels(predictions: Predictions, *, level: float, seed: int) -> PossibleLabels | None:
    """Return ``possible_labels`` of the server's own test lesions, with the parts that ``seed`` deals."""
    labels, scores, patients = predictions.labels, predictions.scores, predictions.patients
    folds = deal_folds(patients, numpy_generator(seed, "conformal folds"))
    return possible_labels(labels, scores, patients, folds=folds, level=level)


def coverage_by_level(predictions: Predictions, *, num_resamples: int, seed: int) -> tuple[Coverage, ...]:
    """Return the coverage at each of ``LEVELS`` on the server's own test lesions; none with too few patients."""
    found = ((level, cross_fitted_labels(predictions, level=level, seed=seed)) for level in LEVELS)
    return tuple(
        measured_coverage(
            predictions.labels,
            possible,
            predictions.patients,
            level=level,
            num_resamples=num_resamples,
            generator=numpy_generator(seed, "bootstrap", "coverage"),
        )
        for level, possible in found
        if possible is not None
    )


def measured_coverage(
    labels: IntArray,
    possible: PossibleLabels,
    patients: IntArray,
    *,
    level: float,
    num_resamples: int,
    generator: np.random.Generator,
) -> Coverage:
    """Return what the sets reach, with intervals over patients; the patients that made the sets stay as they are.

    Args:
        labels: ``(N,)``, 0 or 1, of both classes.
        possible: of the same lesions.
        patients: ``(N,)``; equal numbers are the same patient.
        level: of the sets.
        num_resamples: of the bootstrap over patients, >= 1.
        generator: source of the draws.
    """
    first = first_lesions(labels, patients)
    is_malignant = labels[first] == 1
    covered, single = possible.holds(labels == 1)[first], possible.is_single[first]
    ratios = {
        "coverage": _ratio(covered, np.ones(len(first), dtype=bool)),
        "coverage_benign": _ratio(covered, ~is_malignant),
        "coverage_malignant": _ratio(covered, is_malignant),
        "abstained": _ratio(~single, np.ones(len(first), dtype=bool)),
    }
    if single.any():
        ratios["answered_right"] = _ratio(covered, single)
    shares = patient_shares(ratios, patients[first], num_resamples, generator)
    return Coverage(
        level=level,
        num_benign=int((~is_malignant).sum()),
        num_malignant=int(is_malignant.sum()),
        coverage=shares["coverage"],
        coverage_benign=shares["coverage_benign"],
        coverage_malignant=shares["coverage_malignant"],
        abstained=shares["abstained"],
        answered_right=shares.get("answered_right"),
    )


def _ratio(is_counted: BoolArray, is_among: BoolArray) -> Ratio:
    return Ratio(above=(is_counted & is_among).astype(float), below=is_among.astype(float))
