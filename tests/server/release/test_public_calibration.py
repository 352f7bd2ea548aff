"""Abstention and novelty from public lesions: measured on patients left out, and None where they are too few."""

import numpy as np
import pytest
import torch

from server.release.public_calibration import PublicLesions, calibrate_on_public
from shared_model.data.lesions import Lesions


def public(count, *, seed=0, copies=1, shift=1.5):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count) % 2, copies)
    lesions = Lesions(
        images=torch.from_numpy(generator.normal(size=(count * copies, 320)).astype(np.float32)),
        has_image=torch.ones(count * copies, dtype=torch.bool),
        clinical=torch.zeros(count * copies, 1),
        labels=torch.from_numpy(labels.astype(np.float32)),
        patients=torch.from_numpy(np.repeat(np.arange(count), copies)),
    )
    scores = 1 / (1 + np.exp(-generator.normal(shift * (labels - 0.5))))
    return PublicLesions(lesions=lesions, source="x", overlaps_training=False, grey_reference=None), scores


def test_the_measured_coverage_is_near_the_level():
    lesions, scores = public(800)
    found = calibrate_on_public(lesions, scores, level=0.9, generator=np.random.default_rng(0)).reference
    measured = found.abstention.measured
    assert (measured.num_benign, measured.num_malignant) == (400, 400)
    assert measured.coverage_benign == pytest.approx(0.9, abs=0.045)
    assert measured.coverage_malignant == pytest.approx(0.9, abs=0.045)
    assert measured.coverage == pytest.approx((measured.coverage_benign + measured.coverage_malignant) / 2)
    assert 0.2 < measured.abstained < 0.8
    # 1.96 standard errors of a share of 400 patients to both sides.
    interval = measured.coverage_benign_interval
    assert interval.low < measured.coverage_benign < interval.high
    width = 2 * 1.96 * np.sqrt(measured.coverage_benign * (1 - measured.coverage_benign) / 400)
    assert interval.high - interval.low == pytest.approx(width, rel=0.2)
    assert found.novelty.flagged == pytest.approx(0.01, abs=0.012)


def test_a_patient_counts_once_in_abstention():
    lesions, scores = public(100, copies=4)
    found = calibrate_on_public(lesions, scores, level=0.8, generator=np.random.default_rng(0)).reference
    assert len(found.abstention.benign_scores) == len(found.abstention.malignant_scores) == 50


def test_public_features_are_near_and_others_far():
    lesions, scores = public(400)
    found = calibrate_on_public(lesions, scores, level=0.8, generator=np.random.default_rng(0))
    distances = found.features.distances(lesions.lesions.images.numpy())
    assert (distances < found.reference.novelty.limit).mean() > 0.98
    assert (found.features.distances(3 * lesions.lesions.images.numpy()) > found.reference.novelty.limit).all()


def test_too_few_say_nothing():
    lesions, scores = public(40)
    found = calibrate_on_public(lesions, scores, level=0.8, generator=np.random.default_rng(0))
    assert found.reference.abstention is None
    assert found.reference.novelty is None
    assert found.features is None
