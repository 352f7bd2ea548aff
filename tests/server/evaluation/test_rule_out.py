"""Rule-out: by hand, monotone in the target, and nothing where noise hides the patients."""

import numpy as np
import pytest
from scipy.stats import beta

from server.evaluation.histogram_calibration import calibrate
from server.evaluation.predictions import Predictions
from server.evaluation.rule_out import TARGETS, rule_out
from shared_model.privacy.patient_histogram import PatientHistogram

HISTOGRAM = PatientHistogram(
    negatives=np.array([120.0, 80, 60, 30, 15, 5]), positives=np.array([3.0, 10, 25, 60, 90, 110]), noise_std=0.0
)


def predictions(labels, scores, patients=None):
    patients = np.arange(len(labels)) if patients is None else np.array(patients)
    return Predictions(labels=np.array(labels), scores=np.array(scores, dtype=float), patients=patients, attributes={})


def test_by_hand():
    test = predictions([1, 1, 0, 0, 0], [0.9, 0.0, 0.0, 0.0, 0.95])
    for row in rule_out(test, HISTOGRAM, num_resamples=200, seed=0):
        assert row.threshold == calibrate(HISTOGRAM, row.target_sensitivity).threshold
        assert 0 < row.threshold < 0.9
        assert (row.missed, row.sensitivity.value) == (1, 0.5)
        assert (row.ruled_out.value, row.benign_ruled_out.value) == (3 / 5, pytest.approx(2 / 3))


def test_a_higher_target_rules_out_no_more():
    generator = np.random.default_rng(0)
    test = predictions(generator.integers(0, 2, 300), generator.uniform(size=300))
    rows = rule_out(test, HISTOGRAM, num_resamples=20, seed=0)
    assert [row.target_sensitivity for row in rows] == list(TARGETS)
    assert [row.missed for row in rows] == sorted((row.missed for row in rows), reverse=True)
    thresholds = [row.threshold for row in rows]
    assert thresholds == sorted(thresholds, reverse=True)


def test_no_cancer_missed_is_not_sure_to_miss_none():
    test = predictions([1, 1, 0, 0], [0.9, 0.9, 0.0, 0.1], patients=[0, 0, 1, 2])
    row = rule_out(test, HISTOGRAM, num_resamples=20, seed=0)[0]
    assert (row.sensitivity.value, row.missed) == (1, 0)
    assert row.sensitivity.interval.low == pytest.approx(beta.ppf(0.025, 1, 1))


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_lesions_of_one_class_give_none(labels):
    assert rule_out(predictions(labels, [0.1, 0.9]), HISTOGRAM, num_resamples=5, seed=0) == ()


def test_noise_that_hides_the_patients_gives_none():
    hidden = PatientHistogram(negatives=np.ones(6), positives=np.ones(6), noise_std=100.0)
    assert rule_out(predictions([0, 1], [0.1, 0.9]), hidden, num_resamples=5, seed=0) == ()
