"""Abstention and novelty calibrated on public lesions, with what they reach on public patients left out of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from server.evaluation.conformal_coverage import deal_folds, first_lesions, measured_coverage, possible_labels
from shared_model.data.lesions import Lesions
from shared_model.metrics.counts import FloatArray, IntArray
from shared_model.network.named_arrays import Float32Array
from shared_model.release.document import Abstention, GreyContract, MeasuredCoverage, Novelty, PublicReference
from shared_model.release.novelty import FeatureReference

_MIN_LESIONS = 150
"""For novelty."""
_FLAGGED = 0.01
"""Share of public lesions that the limit of novelty is to flag."""
_NUM_RESAMPLES = 1000
"""Of the bootstrap over public patients."""


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
        generator: deals patients to folds, then draws them for intervals.
    """
    lesions = public.lesions
    labels, patients = lesions.labels.numpy().astype(np.int64), lesions.patients.numpy()
    folds = deal_folds(patients, generator)
    novelty, features = _novelty(lesions, folds) if lesions.images.ndim == 2 else (None, None)
    reference = PublicReference(
        source=public.source,
        overlaps_training=public.overlaps_training,
        abstention=_abstention(labels, scores, patients, folds=folds, level=level, seeds=generator),
        novelty=novelty,
    )
    return PublicCalibration(reference=reference, features=features)


def _abstention(
    labels: IntArray,
    scores: FloatArray,
    patients: IntArray,
    *,
    folds: IntArray,
    level: float,
    seeds: np.random.Generator,
) -> Abstention | None:
    possible = possible_labels(labels, scores, patients, folds=folds, level=level)
    if possible is None:
        return None
    first = first_lesions(labels, patients)
    is_malignant = labels[first] == 1
    found = measured_coverage(labels, possible, patients, level=level, num_resamples=_NUM_RESAMPLES, generator=seeds)
    return Abstention(
        level=level,
        benign_scores=_sorted(scores[first][~is_malignant]),
        malignant_scores=_sorted(scores[first][is_malignant]),
        measured=MeasuredCoverage(
            num_benign=found.num_benign,
            num_malignant=found.num_malignant,
            coverage=found.coverage.value,
            coverage_interval=found.coverage.interval,
            coverage_benign=found.coverage_benign.value,
            coverage_benign_interval=found.coverage_benign.interval,
            coverage_malignant=found.coverage_malignant.value,
            coverage_malignant_interval=found.coverage_malignant.interval,
            abstained=found.abstained.value,
            abstained_interval=found.abstained.interval,
        ),
    )


def _sorted(scores: FloatArray) -> tuple[float, ...]:
    # Sorted, so that no order says which patient a score is of.
    return tuple(float(score) for score in np.sort(scores))


def _novelty(lesions: Lesions, folds: NDArray[np.int64]) -> tuple[Novelty | None, FeatureReference | None]:
    has_image = lesions.has_image.numpy()
    features, folds = lesions.images.numpy()[has_image], folds[has_image]
    if len(features) < _MIN_LESIONS:
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
