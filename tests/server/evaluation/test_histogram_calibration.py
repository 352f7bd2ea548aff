"""Threshold and scaling from a histogram: exact counts give what single scores would, noise moves them little."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from server.evaluation.histogram_calibration import USUAL_SCALING, calibrate, fit_scaling
from shared_model.privacy.patient_histogram import PatientHistogram


def scored(num_patients, *, slope=1.0, offset=0.0, seed=0):
    """Labels drawn with probability ``expit(slope l + offset)`` of logits ``l``, and the scores ``expit(l)``."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=1.5, size=num_patients)
    labels = (generator.random(num_patients) < expit(slope * logits + offset)).astype(int)
    return labels, expit(logits)


def histogram_of(labels, scores, *, bins=6, std=0.0, seed=0):
    exact = PatientHistogram.from_scores(labels, scores, np.arange(len(labels)), bins)
    if not std:
        return exact
    return exact.with_noise(np.random.default_rng(seed).normal(scale=std, size=(2, bins)), std)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.5, 0.3), (1.8, -0.6)])
def test_without_noise_the_scaling_is_that_of_logistic_regression(slope, offset):
    labels, scores = scored(20_000, slope=slope, offset=offset)
    found = fit_scaling(histogram_of(labels, scores, bins=200))
    fitted = LogisticRegression(C=np.inf).fit(logit(scores)[:, None], labels)
    assert found.scale == pytest.approx(fitted.coef_[0, 0], rel=0.04)
    assert found.offset == pytest.approx(fitted.intercept_[0], abs=0.04)


def test_without_noise_the_threshold_reaches_the_target_on_these_patients():
    labels, scores = scored(20_000)
    calibration = calibrate(histogram_of(labels, scores, bins=200), 0.9)
    scaled = expit(calibration.scaling.scale * logit(scores) + calibration.scaling.offset)
    # A tenth of the cancers that may go by is found too.
    assert np.mean(scaled[labels == 1] >= calibration.threshold) == pytest.approx(0.91, abs=0.01)


def test_noise_as_of_a_small_budget_leaves_threshold_and_scaling_near():
    """700 patients at three hospitals, 5 % of epsilon 1; shares of the noisy counts alone would give no threshold."""
    labels, scores = scored(700, slope=1.0, seed=1)
    reached = []
    for seed in range(60):
        calibration = calibrate(histogram_of(labels, scores, std=25.0, seed=seed), 0.9)
        scaled = expit(calibration.scaling.scale * logit(scores) + calibration.scaling.offset)
        reached.append(np.mean(scaled[labels == 1] >= calibration.threshold))
        assert 0.5 < calibration.scaling.scale < 2
    assert 0.86 < np.mean(reached) < 0.95
    assert np.std(reached) < 0.05


def test_patients_whom_noise_hides_choose_no_threshold():
    labels, scores = scored(50)
    assert calibrate(histogram_of(labels, scores, std=60.0), 0.9).threshold is None


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=12, max_size=12),
    st.floats(1e-3, 1e3),
    st.floats(0.05, 1.0),
)
@settings(max_examples=200)
def test_whatever_the_counts_it_is_a_scaling_and_a_probability(counts, std, target):
    noisy = PatientHistogram(negatives=np.array(counts[:6]), positives=np.array(counts[6:]), noise_std=std)
    calibration = calibrate(noisy, target)
    assert 0.3 <= calibration.scaling.scale <= 2.5
    assert abs(calibration.scaling.offset) <= 2.5
    assert calibration.threshold is None or 0 <= calibration.threshold <= 1


def test_a_higher_target_has_no_higher_threshold():
    labels, scores = scored(2000)
    thresholds = [calibrate(histogram_of(labels, scores, bins=20), target).threshold for target in (0.5, 0.8, 0.9, 1.0)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[-1] == 0


def test_the_target_is_a_share():
    labels, scores = scored(100)
    with pytest.raises(ValueError, match=r"Expected target_sensitivity=0 in \(0, 1\]"):
        calibrate(histogram_of(labels, scores), 0)
    assert USUAL_SCALING.scale < 1
