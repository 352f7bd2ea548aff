"""Recalibration: whole patients are used, the others judge it, and a line through the logits comes back."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss

from server.evaluation.estimates import EstimateSettings
from server.evaluation.predictions import Predictions
from server.evaluation.private_mean import constants_without
from shared_model.config import compose
from shared_model.data.lesions import Lesions
from shared_model.errors import CohortError, ConfigError
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.fusion import build_network
from shared_model.network.scoring import predict
from shared_model.network.state import load_feature_constants
from shared_model.vocabulary import clinical_width
from simulations.evaluation.document import RecalibrationKind
from simulations.evaluation.recalibration import RecalibrationRequest, draw_patients, recalibrate

SETTINGS = EstimateSettings(threshold=0.5, prevalence=0.01, num_resamples=50, seed=0)
MEAN = RecalibrationRequest(kind=RecalibrationKind.MEAN)


def outcomes(number):
    return RecalibrationRequest(kind=RecalibrationKind.OUTCOMES, num_outcomes=number)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 40),
    st.integers(0, 5),
)
def test_whole_patients_are_drawn_and_no_more_than_needed(rows, num_needed, seed):
    patients = np.array([patient for patient, _ in rows])
    counts = np.array([does_count for _, does_count in rows])
    drawn = draw_patients(patients, counts, num_needed, np.random.default_rng(seed))
    for patient in set(patients):
        assert len(set(drawn[patients == patient])) == 1
    if counts.sum() < num_needed:
        assert drawn.all()
        return
    assert counts[drawn].sum() >= num_needed
    # Without the patient who was drawn last there are too few.
    assert any(counts[drawn & (patients != patient)].sum() < num_needed for patient in set(patients[drawn]))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    return compose(
        [
            *("preset=smoke", f"run.dir={path}", "model.feature_constants=private_mean"),
            *("model.image_components=0", "model.modality=image"),
        ]
    )


def lesions_of(labels, features, patients=None):
    count = len(labels)
    return Lesions(
        images=torch.from_numpy(np.asarray(features, dtype=np.float32)),
        has_image=torch.ones(count, dtype=torch.bool),
        clinical=torch.zeros(count, 1),
        labels=torch.from_numpy(np.asarray(labels, dtype=np.float32)),
        patients=torch.arange(count) if patients is None else torch.from_numpy(patients),
    )


def predictions_of(labels, scores, patients=None):
    return Predictions(
        labels=np.asarray(labels, dtype=np.int64),
        scores=np.asarray(scores, dtype=float),
        patients=np.arange(len(labels)) if patients is None else patients,
        attributes={},
    )


def value(estimates, name):
    return next(estimate.value for estimate in estimates if estimate.name == name)


def test_outcomes_undo_a_network_that_is_too_sure(config):
    generator = np.random.default_rng(0)
    true_logits = generator.normal(0, 1.5, 3000)
    labels = generator.random(3000) < expit(true_logits)
    predictions = predictions_of(labels, expit(3 * true_logits + 1))
    lesions = lesions_of(labels, np.zeros((3000, 4)))
    done = recalibrate(outcomes(1000), predictions, lesions, None, config, SETTINGS)
    result = done.result
    assert (result.num_lesions_used, result.num_lesions_left) == (1000, 2000)
    assert result.scale == pytest.approx(1 / 3, rel=0.15)
    assert result.offset == pytest.approx(-1 / 3, abs=0.1)
    # A second way to the same numbers, on the lesions left.
    assert value(result.before, "brier") == pytest.approx(brier_score_loss(done.before.labels, done.before.scores))
    by_hand = expit(result.scale * logit(done.before.scores) + result.offset)
    assert value(result.after, "brier") == pytest.approx(brier_score_loss(done.before.labels, by_hand), abs=1e-6)
    assert value(result.after, "calibration_error") < 0.05 < value(result.before, "calibration_error")
    # Order and calls stay.
    for name in ("auroc", "sensitivity", "specificity"):
        assert value(result.after, name) == value(result.before, name)


def test_nobody_whose_outcome_was_used_judges_it(config):
    generator = np.random.default_rng(1)
    patients = np.repeat(np.arange(100), 3)
    labels = generator.integers(0, 2, 300)
    predictions = predictions_of(labels, np.clip(0.3 * labels + generator.random(300) * 0.6, 0, 1), patients)
    done = recalibrate(outcomes(100), predictions, lesions_of(labels, np.zeros((300, 4))), None, config, SETTINGS)
    assert done.result.num_patients_used + done.result.num_patients_left == 100
    assert done.result.num_lesions_used == 102
    again = recalibrate(outcomes(100), predictions, lesions_of(labels, np.zeros((300, 4))), None, config, SETTINGS)
    assert again.result == done.result


def test_the_mean_takes_a_shift_of_all_features_back(config):
    """A scanner that adds the same to every image: the site's own mean hides it from the network."""
    generator = np.random.default_rng(2)
    direction = np.zeros(FEATURE_WIDTH)
    direction[0] = 1.0
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    load_feature_constants(network, constants_without(direction))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.from_numpy(generator.normal(size=tuple(parameter.shape)).astype(np.float32)))
    labels = generator.integers(0, 2, 200)
    own = direction + 0.2 * generator.normal(size=(200, FEATURE_WIDTH)) / np.sqrt(FEATURE_WIDTH)
    shift = generator.normal(size=FEATURE_WIDTH) / np.sqrt(FEATURE_WIDTH)
    shift[0] = 0
    moved = lesions_of(labels, own + shift)
    before = predict(network, moved)
    done = recalibrate(MEAN, predictions_of(labels, before), moved, network, config, SETTINGS)
    left = np.isin(np.arange(200), done.after.patients)
    reference = predict(network, lesions_of(labels, own))[left]
    assert (done.result.scale, done.result.num_lesions_used) == (None, 100)
    error_before = np.abs(logit(before[left]) - logit(reference)).mean()
    error_after = np.abs(logit(done.after.scores) - logit(reference)).mean()
    assert error_after < error_before / 2
    # The run's own network is as it was.
    assert np.array_equal(predict(network, moved), before)


class TestRefuses:
    def test_more_outcomes_than_there_are(self, config):
        labels = [0, 1] * 10
        with pytest.raises(CohortError, match="Expected outcomes:20 < 20"):
            recalibrate(
                outcomes(20),
                predictions_of(labels, labels),
                lesions_of(labels, np.zeros((20, 4))),
                None,
                config,
                SETTINGS,
            )

    @pytest.mark.parametrize("labels", [[0] * 20, [1] * 20, [1] + [0] * 19])
    def test_one_class(self, config, labels):
        predictions = predictions_of(labels, np.linspace(0, 1, 20))
        with pytest.raises(CohortError, match="Expected benign and malignant lesions"):
            recalibrate(outcomes(10), predictions, lesions_of(labels, np.zeros((20, 4))), None, config, SETTINGS)

    def test_scores_that_are_the_wrong_way_round(self, config):
        labels = [0, 1] * 20
        predictions = predictions_of(labels, [0.9, 0.1] * 20)
        with pytest.raises(CohortError, match="to have the higher scores"):
            recalibrate(outcomes(20), predictions, lesions_of(labels, np.zeros((40, 4))), None, config, SETTINGS)

    def test_a_mean_without_features(self, config):
        clinical = dataclasses.replace(config, model=compose(["model.modality=clinical", "run.dir=x"]).model)
        labels = [0, 1] * 20
        with pytest.raises(ConfigError, match="frozen image features"):
            recalibrate(
                MEAN, predictions_of(labels, labels), lesions_of(labels, np.zeros((40, 4))), None, clinical, SETTINGS
            )
