"""Abstention and novelty calibrated on public lesions, with what they reach on public patients left out of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from shared_model.data.lesions import Lesions
from shared_model.metrics.counts import FloatArray
from shared_model.network.named_arrays import Float32Array
from shared_model.release.conformal import ConformalSet, conformal_set
from shared_model.release.document import Abstention, GreyContract, MeasuredCoverage, Novelty, PublicReference
from shared_model.release.novelty import FeatureReference

DEFAULT_LEVEL = 0.9
"""Of the conformal sets: the share of cancers, and of benign lesions, whose reading may not miss the truth."""
MIN_PATIENTS = 30
"""Of a class for abstention, and of lesions by number of folds for novelty; fewer say nothing of a coverage."""
_NUM_FOLDS = 5
_FLAGGED = 0.01
"""Share of public lesions that the limit of novelty is to flag."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PublicLesions:
    """Lesions of which every patient is public."""

    lesions: Lesions
    source: str
    """Whose they are, in words."""
    overlaps_training: bool
    """Whether patients of the training may be among them."""
    grey_reference: GreyContract | None
    """None where nobody has the pictures any more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PublicCalibration:
    """What goes into a release."""

    reference: PublicReference
    features: FeatureReference | None


def calibrate_on_public(
    public: PublicLesions, scores: FloatArray, *, level: float, generator: np.random.Generator
) -> PublicCalibration:
    """Return abstention and novelty, as far as there are lesions enough.

    Args:
        public: the lesions.
        scores: ``(N,)``, theirs by the final network.
        level: of the conformal sets.
        generator: deals patients to folds.
    """
    lesions = public.lesions
    patients = lesions.patients.numpy()
    folds = _folds(patients, generator)
    novelty, features = _novelty(lesions, folds) if lesions.images.ndim == 2 else (None, None)
    reference = PublicReference(
        source=public.source,
        overlaps_training=public.overlaps_training,
        abstention=_abstention(lesions.labels.numpy(), scores, patients, folds=folds, level=level),
        novelty=novelty,
    )
    return PublicCalibration(reference=reference, features=features)


def _folds(patients: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the fold ``(N,)`` of every row; all rows of a patient are in one."""
    _, numbers = np.unique(patients, return_inverse=True)
    dealt = generator.permutation(int(numbers.max()) + 1 if len(numbers) else 0) % _NUM_FOLDS
    folds: NDArray[np.int64] = dealt[numbers]
    return folds


def _abstention(
    labels: Float32Array, scores: FloatArray, patients: NDArray[np.int64], *, folds: NDArray[np.int64], level: float
) -> Abstention | None:
    # One lesion of each patient and class, the first: lesions of a patient are not exchangeable with those of others.
    _, first = np.unique(np.stack([patients, labels.astype(np.int64)], axis=1), axis=0, return_index=True)
    first = np.sort(first)
    is_malignant, scores, folds = labels[first] == 1, scores[first], folds[first]
    if min(is_malignant.sum(), (~is_malignant).sum()) < MIN_PATIENTS:
        return None
    found = [
        conformal_set(
            float(scores[row]),
            benign_scores=scores[(folds != folds[row]) & ~is_malignant],
            malignant_scores=scores[(folds != folds[row]) & is_malignant],
            level=level,
        )
        for row in range(len(scores))
    ]
    return Abstention(
        level=level,
        benign_scores=_sorted(scores[~is_malignant]),
        malignant_scores=_sorted(scores[is_malignant]),
        measured=_measured(found, is_malignant),
    )


def _measured(found: list[ConformalSet], is_malignant: NDArray[np.bool_]) -> MeasuredCoverage:
    covered = [
        each.has_malignant if label else each.has_benign for each, label in zip(found, is_malignant, strict=True)
    ]
    is_covered = np.array(covered)
    return MeasuredCoverage(
        num_benign=int((~is_malignant).sum()),
        num_malignant=int(is_malignant.sum()),
        coverage_benign=float(is_covered[~is_malignant].mean()),
        coverage_malignant=float(is_covered[is_malignant].mean()),
        abstained=float(np.mean([not each.is_single for each in found])),
    )


def _sorted(scores: FloatArray) -> tuple[float, ...]:
    # Sorted, so that no order says which patient a score is of.
    return tuple(float(score) for score in np.sort(scores))


def _novelty(lesions: Lesions, folds: NDArray[np.int64]) -> tuple[Novelty | None, FeatureReference | None]:
    has_image = lesions.has_image.numpy()
    features, folds = lesions.images.numpy()[has_image], folds[has_image]
    if len(features) < MIN_PATIENTS * _NUM_FOLDS:
        return None, None
    distances = np.zeros(len(features))
    for part, rest in _parts(folds):
        distances[part] = _reference(features[rest]).distances(features[part])
    flagged = [distances[part] > np.quantile(distances[rest], 1 - _FLAGGED) for part, rest in _parts(folds)]
    novelty = Novelty(
        num_lesions=len(features),
        limit=float(np.quantile(distances, 1 - _FLAGGED)),
        flagged=float(np.mean(np.concatenate(flagged))),
    )
    return novelty, _reference(features)


def _parts(folds: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    for fold in np.unique(folds):
        yield folds == fold, folds != fold


def _reference(features: Float32Array) -> FeatureReference:
    fitted = LedoitWolf().fit(features.astype(np.float64))
    values, vectors = np.linalg.eigh(fitted.covariance_)
    whitening = vectors / np.sqrt(np.maximum(values, values.max() * 1e-9))
    return FeatureReference(mean=fitted.location_.astype(np.float32), whitening=whitening.astype(np.float32))
