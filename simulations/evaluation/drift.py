"""Drift: how far other lesions are from those that the run knew, as far as its folder alone can tell.

No training data are needed. Scores and columns are compared with the run's own test lesions. Of each difference it is
said what chance alone makes: patients of both sets are dealt to two sets of the same sizes again and again, each with
all lesions, and 95 % of the differences that result are no larger. Image features are compared with the constants in
the network, which were made from the training or public lesions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from client.training.feature_sum import feature_sum
from server.evaluation.predictions import Predictions
from server.federation.cohort_sums import site_factors
from shared_model.config.choices import PrivacyMode
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.metrics.counts import FloatArray, IntArray
from shared_model.metrics.intervals import CONFIDENCE_LEVEL, ConfidenceInterval
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.fusion import FusionNet
from shared_model.network.standardisation import Standardisation
from shared_model.privacy.noise_calibration import noise_of_share
from shared_model.system.seeding import numpy_generator
from simulations.evaluation.document import Difference, Drift, FeatureDrift

NUM_DEALS = 400
"""Of patients to two sets, by which a difference is judged."""
COMPARED_COLUMNS = ("laterality", "view", "abnormality_type", "breast_density", "subtlety", "pathology")
"""Those that a run's folder holds of its own test lesions."""
_Measure = Callable[[NDArray[np.intp], NDArray[np.intp]], float]
"""The difference between two sets of rows of all lesions together."""


def largest_gap(first: ArrayLike, second: ArrayLike) -> float:
    """Return the largest difference between the shares of both sets that lie at or below a value (Kolmogorov-Smirnov).

    >>> largest_gap([1, 2, 3, 4], [3, 4, 5, 6])
    0.5
    """
    one, other = np.sort(np.asarray(first)), np.sort(np.asarray(second))
    values = np.concatenate((one, other))
    shares = [np.searchsorted(part, values, side="right") / len(part) for part in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def total_variation(first: ArrayLike, second: ArrayLike) -> float:
    """Return half the sum over values, whole numbers from 0, of the difference between their shares: 0 if all agree.

    >>> total_variation([0, 0, 1, 1], [1, 1, 1, 1])
    0.5
    """
    parts = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    num_values = int(np.concatenate(parts).max()) + 1
    shares = [np.bincount(part, minlength=num_values) / len(part) for part in parts]
    # Shares add up to 1 but for rounding.
    return min(1.0, float(np.abs(shares[0] - shares[1]).sum() / 2))


def by_chance(measure: _Measure, patients: IntArray, num_first: int, generator: np.random.Generator) -> float:
    """Return the difference that ``CONFIDENCE_LEVEL`` of random deals of the patients do not exceed.

    Args:
        measure: of the rows of two sets.
        patients: ``(N,)``: of the rows of both sets together.
        num_first: patients dealt to the first set; all others go to the second.
        generator: of the deals.
    """
    names, patient_of = np.unique(patients, return_inverse=True)
    differences = []
    for _ in range(NUM_DEALS):
        is_first = np.zeros(len(names), dtype=bool)
        is_first[generator.permutation(len(names))[:num_first]] = True
        is_row_first = is_first[patient_of]
        differences.append(measure(np.flatnonzero(is_row_first), np.flatnonzero(~is_row_first)))
    return float(np.quantile(differences, CONFIDENCE_LEVEL))


def drift_from_own_test(own: Predictions | None, other: Predictions, *, has_outcomes: bool, seed: int) -> Drift:
    """Return the differences between the run's own test lesions and others; features are for ``feature_drift``.

    Args:
        own: as the run's folder has them; None where it has none.
        other: whose labels count with ``has_outcomes`` only.
        has_outcomes: of ``other``.
        seed: of the deals.
    """
    if own is None:
        return Drift(num_reference_lesions=None, num_reference_patients=None, differences=(), features=None)
    first_of_own = int(own.patients.max()) + 1
    patients = np.concatenate((own.patients, other.patients + first_of_own))
    is_own = np.arange(len(patients)) < len(own.scores)
    differences = [
        _difference(compared, patients, is_own, numpy_generator(seed, "drift", compared.name))
        for compared in _compared(own, other, has_outcomes=has_outcomes)
        if (compared.is_chosen & is_own).any() and (compared.is_chosen & ~is_own).any()
    ]
    return Drift(
        num_reference_lesions=len(own.scores),
        num_reference_patients=len(np.unique(own.patients)),
        differences=tuple(differences),
        features=None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Compared:
    """One thing that both sets are compared in."""

    name: str
    compare: Callable[[ArrayLike, ArrayLike], float]
    values: FloatArray | IntArray
    """Of the rows of both sets together."""
    is_chosen: NDArray[np.bool_]
    """The rows that count."""


def _compared(own: Predictions, other: Predictions, *, has_outcomes: bool) -> list[_Compared]:
    scores = np.concatenate((own.scores, other.scores))
    everything = np.ones(len(scores), dtype=bool)
    found = [_Compared(name="score", compare=largest_gap, values=scores, is_chosen=everything)]
    if has_outcomes:
        labels = np.concatenate((own.labels, other.labels))
        for name, label in (("malignant", 1), ("benign", 0)):
            of_class = _Compared(
                name=f"score of {name} lesions", compare=largest_gap, values=scores, is_chosen=labels == label
            )
            found.append(of_class)
        found.append(_Compared(name="outcome", compare=total_variation, values=labels, is_chosen=everything))
    for name in COMPARED_COLUMNS:
        if name in own.attributes and name in other.attributes:
            cells = np.array((*own.attributes[name], *other.attributes[name]))
            codes = np.unique(cells, return_inverse=True)[1].astype(np.int64)
            found.append(_Compared(name=name, compare=total_variation, values=codes, is_chosen=everything))
    return found


def _difference(
    compared: _Compared, patients: IntArray, is_own: NDArray[np.bool_], generator: np.random.Generator
) -> Difference:
    rows = np.flatnonzero(compared.is_chosen)
    values, patients, is_own = compared.values[rows], patients[rows], is_own[rows]

    def measure(first: NDArray[np.intp], second: NDArray[np.intp]) -> float:
        return compared.compare(values[first], values[second])

    return Difference(
        name=compared.name,
        value=measure(np.flatnonzero(is_own), np.flatnonzero(~is_own)),
        by_chance=by_chance(measure, patients, len(np.unique(patients[is_own])), generator),
    )


def feature_drift(
    network: FusionNet, lesions: Lesions, config: ExperimentConfig, *, declared: Sequence[int], num_resamples: int
) -> FeatureDrift | None:
    """Return how the mean of the image features stands to the constants in the network.

    With a private mean it is the cosine of the angle between the mean direction of these patients' features and the one
    that the sites bought before training. With public constants it is the length of the mean of the standardised
    features over their root mean square: 0 where they lie round the public mean.

    Args:
        network: of the run.
        lesions: to compare.
        config: of the run.
        declared: patients that each of its sites declared.
        num_resamples: of the bootstrap.

    Returns:
        None without images, frozen features, or constants.
    """
    standardisation = network.image_standardisation
    if standardisation is None or not lesions.has_image.any():
        return None
    if not config.has_private_mean and not standardisation.constants()[0].any():
        # Nobody's mean: the features are used as they are.
        return None
    shown = lesions.select(lesions.has_image)
    vectors = _patient_vectors(standardisation, shown, config)
    generator = numpy_generator(config.seed, "drift", "features")
    direction = private_direction(standardisation) if config.has_private_mean else None
    drawn = [
        _compare_mean(vectors[generator.integers(len(vectors), size=len(vectors))], direction)
        for _ in range(num_resamples)
    ]
    low, high = np.quantile(drawn, ((1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2))
    return FeatureDrift(
        is_cosine=direction is not None,
        value=_compare_mean(vectors, direction),
        interval=ConfidenceInterval(low=float(low), high=float(high)),
        without_drift=None
        if direction is None
        else cosine_left_by_noise(float(np.linalg.norm(vectors.mean(axis=0))), declared, config),
        num_patients=len(vectors),
    )


def cosine_left_by_noise(length: float, declared: Sequence[int], config: ExperimentConfig) -> float:
    """Return about the cosine between the mean that sites bought and the mean without noise.

    Args:
        length: of the mean vector without noise, in [0, 1].
        declared: patients of each site.
        config: of the run, with a private mean.
    """
    privacy, factors = config.privacy, np.array(site_factors(declared, config.strategy))
    if privacy.mode is PrivacyMode.OFF or not (privacy.mean_share and privacy.target_epsilon and privacy.delta):
        return 1.0
    std = noise_of_share(privacy.mean_share, privacy.target_epsilon, delta=privacy.delta)
    signal = length * float(factors @ np.array(declared))
    return signal / math.hypot(signal, std * math.sqrt(FEATURE_WIDTH * float(factors @ factors)))


def private_direction(standardisation: Standardisation) -> FloatArray:
    """Return the unit vector ``(D,)`` that the constants project out; its sign is not known."""
    projection = standardisation.constants()[1].double().numpy()
    direction: FloatArray = np.linalg.eigh(np.eye(len(projection)) - (projection + projection.T) / 2)[1][:, -1]
    return direction


def _patient_vectors(standardisation: Standardisation, shown: Lesions, config: ExperimentConfig) -> FloatArray:
    """Return the mean vector ``(P, D)`` of every patient: of unit-length features, or of standardised ones."""
    patients = torch.unique(shown.patients)
    if config.has_private_mean:
        means = [feature_sum(shown.select(shown.patients == patient)) for patient in patients]
    else:
        with torch.inference_mode():
            features = standardisation(shown.images).double()
        means = [features[shown.patients == patient].mean(dim=0) for patient in patients]
    vectors: FloatArray = torch.stack(means).numpy()
    return vectors


def _compare_mean(vectors: FloatArray, direction: FloatArray | None) -> float:
    mean = vectors.mean(axis=0)
    length = float(np.linalg.norm(mean))
    if direction is None:
        root_mean_square = float(np.sqrt((vectors**2).sum(axis=1).mean()))
        return length / root_mean_square if root_mean_square else 0.0
    # Its sign is not known, and features of images all point to one side.
    return min(1.0, abs(float(mean @ direction)) / length) if length else 0.0
