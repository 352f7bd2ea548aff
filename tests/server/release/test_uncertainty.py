"""Uncertainty of the scaling: its intervals hold the truth as often as they say, with and without privacy noise."""

import numpy as np
import pytest
from scipy.special import expit

from server.evaluation.histogram_calibration import calibrate
from server.release.uncertainty import NUM_DRAWS, from_histogram, from_public_patients
from shared_model.errors import ConfigError
from shared_model.privacy.patient_histogram import PatientHistogram

TEST_LOGITS = np.array([-1.5, 0.0, 1.5])


def drawn(generator, *, num_patients):
    slope, offset = np.exp(generator.normal(scale=0.25)), generator.normal(scale=0.5)
    logits = generator.normal(-0.4, 1.0, num_patients)
    labels = (generator.random(num_patients) < expit(slope * logits + offset)).astype(int)
    return slope, offset, logits, labels


@pytest.mark.parametrize("std", [3.0, 15.0])
def test_intervals_from_a_noisy_histogram_hold_the_true_line(std):
    generator, covered, num_trials = np.random.default_rng(0), np.zeros(3), 60
    for _ in range(num_trials):
        slope, offset, logits, labels = drawn(generator, num_patients=690)
        exact = PatientHistogram.from_scores(labels, expit(logits), np.arange(690), 6)
        histogram = exact.with_noise(generator.normal(scale=std, size=(2, 6)), std)
        chosen = calibrate(histogram, 0.9)
        found = from_histogram(
            histogram, target_sensitivity=0.9, threshold=chosen.threshold or 0.5, generator=generator
        )
        # Draws are relative to the chosen line: applied to its logits they give lines of the raw ones.
        scaled = chosen.scaling.scale * TEST_LOGITS + chosen.scaling.offset
        lines = np.outer(found.slopes, scaled) + found.offsets[:, None]
        low, high = np.quantile(lines, (0.025, 0.975), axis=0)
        truth = slope * TEST_LOGITS + offset
        covered += (low <= truth) & (truth <= high)
    # 95 % less three standard errors and what the width of the bins costs. Half the spread would reach some 70 %.
    assert (covered / num_trials > 0.83).all(), covered / num_trials


def test_the_threshold_lies_in_its_interval_and_more_noise_widens_it():
    generator = np.random.default_rng(1)
    *_, logits, labels = drawn(generator, num_patients=690)
    exact = PatientHistogram.from_scores(labels, expit(logits), np.arange(690), 6)
    widths = []
    for std in (1.0, 12.0):
        histogram = exact.with_noise(np.zeros((2, 6)), std)
        threshold = calibrate(histogram, 0.9).threshold
        found = from_histogram(
            histogram, target_sensitivity=0.9, threshold=threshold, generator=np.random.default_rng(0)
        )
        assert found.threshold.low <= threshold <= found.threshold.high
        assert len(found.slopes) == NUM_DRAWS
        widths.append(found.threshold.high - found.threshold.low)
    assert widths[1] > 1.5 * widths[0]


def test_public_patients_are_drawn_whole():
    generator = np.random.default_rng(2)
    *_, logits, labels = drawn(generator, num_patients=120)

    def spread(times):
        found = from_public_patients(
            np.repeat(labels, times),
            np.repeat(expit(logits), times),
            np.repeat(np.arange(120), times),
            target_sensitivity=0.9,
            threshold=0.3,
            generator=np.random.default_rng(0),
        )
        return found.offsets.std()

    # Ten copies of a lesion are one patient still; counted as ten they would seem three times as sure.
    assert spread(10) == pytest.approx(spread(1), rel=0.15)


def test_patients_of_one_class_are_too_few():
    with pytest.raises(ConfigError, match="public patients of both classes"):
        from_public_patients(
            np.zeros(9),
            np.linspace(0, 1, 9),
            np.arange(9),
            target_sensitivity=0.9,
            threshold=0.3,
            generator=np.random.default_rng(0),
        )
