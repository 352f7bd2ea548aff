"""Recalibration: a site adapts scores to its own patients, and sees on its other patients what that is worth.

Either with the outcomes of some lesions (Platt scaling), or with nothing but the mean of their image features, which
takes the place of the mean in the network. Neither carries any noise, so nothing of it may leave the site.
"""

import copy
import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.training.feature_sum import feature_sum
from server.evaluation.estimates import EstimateSettings, estimate_from_predictions
from server.evaluation.predictions import Predictions
from server.evaluation.private_mean import constants_without
from server.results.estimate import Estimate
from server.results.evidence import Level
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.errors import CohortError, ConfigError
from shared_model.metrics.counts import IntArray
from shared_model.metrics.platt_scaling import PlattScaling, finite_logits, fit_platt_scaling
from shared_model.network.fusion import FusionNet
from shared_model.network.scoring import predict
from shared_model.network.standardisation import FeatureConstants
from shared_model.network.state import load_feature_constants
from shared_model.system.seeding import numpy_generator
from simulations.evaluation.document import Recalibration, RecalibrationKind

FIGURES = ("auroc", "brier", "calibration_error", "sensitivity", "specificity")
"""Shown before and after."""
_USED_FOR_MEAN = 0.5
"""Share of the patients whose features make the mean, while the figures are of the others."""


@dataclass(frozen=True, kw_only=True)
class RecalibrationRequest:
    """What is asked for."""

    kind: RecalibrationKind
    num_outcomes: int = 0
    """Lesions whose outcomes may be used, with ``kind=outcomes``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recalibrated:
    """The effect, and the lesions it is shown on."""

    result: Recalibration
    before: Predictions
    after: Predictions


def recalibrate(
    request: RecalibrationRequest,
    predictions: Predictions,
    lesions: Lesions,
    network: FusionNet,
    config: ExperimentConfig,
    settings: EstimateSettings,
) -> Recalibrated:
    """Adapt the scores to some patients, drawn by the run's seed, and return the effect on all others.

    Raises:
        CohortError: too few lesions, or lesions of one class, among those used or the others.
        ConfigError: the network reads no frozen image features that a mean could be taken of.
    """
    is_used = _draw(request, predictions, lesions, config)
    _require_both_classes(predictions, ~is_used, "not used for recalibration")
    before = predictions.select(~is_used)
    scale = offset = None
    if request.kind is RecalibrationKind.OUTCOMES:
        _require_both_classes(predictions, is_used, f"in outcomes:{request.num_outcomes}")
        scaling = _fit(predictions.select(is_used))
        scale, offset = scaling.scale, scaling.offset
        after = dataclasses.replace(before, scores=scaling.probabilities(finite_logits(before.scores)))
        settings_after = settings
        if settings.threshold is not None:
            moved = float(scaling.probabilities(finite_logits(settings.threshold)))
            settings_after = dataclasses.replace(settings, threshold=moved)
    else:
        adapted = _with_mean_of(network, lesions.select(torch.from_numpy(is_used)), config)
        after = dataclasses.replace(before, scores=predict(adapted, lesions.select(torch.from_numpy(~is_used))))
        settings_after = settings
    result = Recalibration(
        kind=request.kind,
        num_lesions_used=int(is_used.sum()),
        num_patients_used=len(np.unique(predictions.patients[is_used])),
        scale=scale,
        offset=offset,
        num_lesions_left=int((~is_used).sum()),
        num_patients_left=len(np.unique(predictions.patients[~is_used])),
        before=_figures(before, settings),
        after=_figures(after, settings_after),
    )
    return Recalibrated(result=result, before=before, after=after)


def draw_patients(
    patients: IntArray, counts: NDArray[np.bool_], num_needed: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Return the rows ``(N,)`` of patients drawn one by one until ``num_needed`` of the rows that count are drawn.

    All rows of a drawn patient come along.
    """
    order = generator.permutation(np.unique(patients))
    position = {int(patient): place for place, patient in enumerate(order)}
    place_of_row = np.array([position[int(patient)] for patient in patients])
    drawn = np.cumsum(np.bincount(place_of_row, weights=counts, minlength=len(order)))
    num_patients = int(np.searchsorted(drawn, num_needed)) + 1
    return place_of_row < num_patients


def _draw(
    request: RecalibrationRequest, predictions: Predictions, lesions: Lesions, config: ExperimentConfig
) -> NDArray[np.bool_]:
    generator = numpy_generator(config.seed, "recalibration")
    num_lesions, patients = len(predictions.scores), predictions.patients
    if request.kind is RecalibrationKind.MEAN:
        if not config.model.reads_frozen_features:
            raise ConfigError("Expected a network that reads frozen image features for --recalibrate mean.")
        num_needed = max(1, math.ceil(_USED_FOR_MEAN * int(lesions.has_image.sum())))
        return draw_patients(patients, lesions.has_image.numpy(), num_needed, generator)
    if request.num_outcomes >= num_lesions:
        raise CohortError(
            f"Expected outcomes:{request.num_outcomes} < {num_lesions}, the lesions there are: some must be left to "
            "show the effect on."
        )
    return draw_patients(patients, np.ones(num_lesions, dtype=bool), request.num_outcomes, generator)


def _require_both_classes(predictions: Predictions, rows: NDArray[np.bool_], which: str) -> None:
    malignant = int(predictions.labels[rows].sum())
    benign = int(rows.sum()) - malignant
    if not malignant or not benign:
        raise CohortError(
            f"Expected benign and malignant lesions {which}, got {benign} benign and {malignant} malignant; use "
            "another number of outcomes or a larger table."
        )


def _fit(used: Predictions) -> PlattScaling:
    scaling = fit_platt_scaling(used.labels, used.scores)
    if scaling is None:
        raise CohortError("Expected malignant lesions to have the higher scores among the outcomes used; use more.")
    return scaling


def _with_mean_of(network: FusionNet, lesions: Lesions, config: ExperimentConfig) -> FusionNet:
    """Return a copy whose constants have the mean of these lesions in place of the run's."""
    adapted, standardisation = copy.deepcopy(network), network.image_standardisation
    if standardisation is None or not lesions.has_image.any():
        raise CohortError("Expected lesions with an image for --recalibrate mean, got none.")
    if config.has_private_mean:
        total = feature_sum(lesions).numpy()
        load_feature_constants(adapted, constants_without(total / np.linalg.norm(total)))
        return adapted
    _, projection = standardisation.constants()
    mean = lesions.images[lesions.has_image].double().mean(dim=0)
    load_feature_constants(adapted, FeatureConstants(mean=mean.float().numpy(), projection=projection.numpy()))
    return adapted


def _figures(predictions: Predictions, settings: EstimateSettings) -> tuple[Estimate, ...]:
    evidence = estimate_from_predictions(dataclasses.replace(predictions, attributes={}), settings)
    by_lesion = None if evidence is None else evidence.level(Level.LESION)
    found = () if by_lesion is None else (by_lesion.estimate(name) for name in FIGURES)
    return tuple(estimate for estimate in found if estimate is not None)
