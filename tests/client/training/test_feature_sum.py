"""The sum of the patients' mean features: what each adds is bounded, and the noise is that of the plan."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.feature_sum import feature_sum, noised_feature_sum
from client.training.noise import NoiseGenerator
from shared_model.data.lesions import Lesions

WIDTH = 7


def lesions_of(features, patients, has_image=None):
    count = len(patients)
    return Lesions(
        images=torch.tensor(np.asarray(features, np.float32).reshape(count, WIDTH)),
        has_image=torch.ones(count, dtype=torch.bool)
        if has_image is None
        else torch.tensor(has_image, dtype=torch.bool),
        clinical=torch.zeros(count, 2),
        labels=torch.zeros(count),
        patients=torch.tensor(patients, dtype=torch.int64),
    )


def added_up_by_hand(lesions):
    """Patient by patient, with Python's own numbers."""
    total = np.zeros(WIDTH)
    for patient in sorted(set(lesions.patients.tolist())):
        rows = [i for i, owner in enumerate(lesions.patients.tolist()) if owner == patient]
        vectors = [lesions.images[i].double().numpy() for i in rows]
        if any(not np.isfinite(vector).all() for vector in vectors):
            continue
        shown = [v / max(math.hypot(*v), 1e-6) for i, v in zip(rows, vectors, strict=True) if lesions.has_image[i]]
        if shown:
            total += sum(shown) / len(shown)
    return total


@st.composite
def cohorts(draw):
    count = draw(st.integers(1, 12))
    entries = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-30, 3e38, -3e38, float("nan"), float("inf"), 7.25])
    features = draw(st.lists(entries, min_size=count * WIDTH, max_size=count * WIDTH))
    patients = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    return lesions_of(features, patients, draw(st.lists(st.booleans(), min_size=count, max_size=count)))


@given(cohorts())
@settings(max_examples=300)
def test_a_patient_moves_the_sum_by_one_at_most_whatever_the_features(lesions):
    whole = feature_sum(lesions)
    assert torch.isfinite(whole).all()
    np.testing.assert_allclose(whole.numpy(), added_up_by_hand(lesions), atol=1e-12)
    for patient in set(lesions.patients.tolist()):
        rest = feature_sum(lesions.select(lesions.patients != patient))
        assert float((whole - rest).norm()) <= 1 + 1e-9


def test_lesions_of_a_patient_share_one_vote():
    one = lesions_of(np.eye(WIDTH)[:2], [3, 3])
    assert feature_sum(one).tolist() == [0.5, 0.5, *[0.0] * 5]


def test_nobody_adds_up_to_zero():
    empty = lesions_of(np.zeros((0, WIDTH)), [])
    assert feature_sum(empty).tolist() == [0.0] * WIDTH


@pytest.mark.parametrize("factor", [1.0, 2 / 3, 3 / 2])
def test_noise_has_the_standard_deviation_of_the_plan(factor):
    """With 7,000 draws the right scale is accepted, and two thirds or three halves of it are not."""
    lesions, noise = lesions_of(np.eye(WIDTH), range(WIDTH)), NoiseGenerator.from_seed(0)
    exact = feature_sum(lesions)
    draws = [noised_feature_sum(lesions, 5.0 * factor, noise).double() - exact for _ in range(1000)]
    found = float(torch.stack(draws).std())
    assert (abs(found / 5.0 - 1) < 0.05) == (factor == 1.0)


def test_the_noised_sum_is_rounded_once():
    lesions = lesions_of(np.eye(WIDTH), range(WIDTH))
    assert noised_feature_sum(lesions, 1.0, NoiseGenerator.from_seed(0)).dtype == torch.float32
