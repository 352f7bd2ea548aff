"""Ridge regression from moments: scikit-learn's from the rows themselves, and logits of a known size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from server.evaluation.ridge_head import LEAST_MEAN_SQUARE, LEAST_RIDGE, LOGIT_SIZE, as_logits, ridge_weights
from shared_model.privacy.patient_moments import Moments, noise_edge, num_moments, patient_moments

WIDTH, NUM_PATIENTS = 6, 200


@pytest.fixture
def rows():
    generator = np.random.default_rng(0)
    inputs = 0.4 * generator.normal(size=(NUM_PATIENTS, WIDTH))
    return inputs, (inputs[:, 0] + 0.3 * generator.normal(size=NUM_PATIENTS) > 0).astype(np.float64)


def moments_of(rows, noise=0.0):
    """Return the moments of the rows, a patient each, and the weights by which the longest were shortened."""
    inputs, labels = rows
    vectors = [patient_moments(inputs[[row]], labels[[row]]) for row in range(len(inputs))]
    weights = np.array([v[-1] / ((2 * y - 1) * x[-1]) for v, x, y in zip(vectors, inputs, labels, strict=True)])
    return Moments.from_vector(sum(vectors) + noise, width=WIDTH), weights


@pytest.mark.parametrize("noise_std", [0.0, 3.0])
def test_weights_are_those_of_ridge_regression_on_the_rows(rows, noise_std):
    moments, sample_weight = moments_of(rows)
    assert 0.2 < sample_weight.min() < sample_weight.max() == pytest.approx(1)
    alpha = noise_edge(noise_std, WIDTH) + LEAST_RIDGE * NUM_PATIENTS
    ridge = Ridge(alpha=alpha, fit_intercept=False, solver="cholesky")
    ridge.fit(rows[0], 2 * rows[1] - 1, sample_weight=sample_weight)
    found = ridge_weights(moments, noise_std=noise_std, num_patients=NUM_PATIENTS)
    np.testing.assert_allclose(found, ridge.coef_, rtol=1e-9)


def test_noise_that_makes_the_second_moments_indefinite_leaves_weights_of_ordinary_size(rows):
    generator, std = np.random.default_rng(1), 40.0
    moments, _ = moments_of(rows, noise=std * generator.normal(size=num_moments(WIDTH)))
    assert np.linalg.eigvalsh(moments.second).min() < -10
    weights = ridge_weights(moments, noise_std=std, num_patients=NUM_PATIENTS)
    assert np.linalg.norm(weights) <= np.linalg.norm(moments.cross) / noise_edge(std, WIDTH)


def test_logits_have_their_size_on_the_training_patients(rows):
    inputs, _ = rows
    small = (0.5 * inputs, rows[1])
    moments, sample_weight = moments_of(small)
    weights = ridge_weights(moments, noise_std=0.0, num_patients=NUM_PATIENTS)
    scaled = as_logits(weights, moments, num_patients=NUM_PATIENTS)
    np.testing.assert_allclose(scaled / np.linalg.norm(scaled), weights / np.linalg.norm(weights))
    logits = small[0] @ scaled
    assert np.sqrt(np.mean(sample_weight * logits**2)) == pytest.approx(LOGIT_SIZE)


def test_weights_of_zero_stay():
    moments = Moments(second=np.zeros((WIDTH, WIDTH)), cross=np.zeros(WIDTH))
    weights = ridge_weights(moments, noise_std=0.0, num_patients=NUM_PATIENTS)
    assert not as_logits(weights, moments, num_patients=NUM_PATIENTS).any()


@given(
    st.lists(
        st.sampled_from([-400.0, -1.0, 0.0, 1e-30, 1e-12, 1e-6, 1e-3, 0.1, 400.0]), min_size=WIDTH, max_size=WIDTH
    ),
    st.lists(st.floats(-400, 400), min_size=WIDTH, max_size=WIDTH),
    st.sampled_from([0.0, 3.0]),
    st.integers(0, 9),
)
def test_whatever_sites_add_up_to_the_weights_are_as_small_as_sites_take_them(values, cross, noise_std, seed):
    """One site may send second moments that nearly cancel those of the others, and cross moments where they do not."""
    directions, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(WIDTH, WIDTH)))
    moments = Moments(second=(directions * values) @ directions.T, cross=np.array(cross))
    weights = ridge_weights(moments, noise_std=noise_std, num_patients=NUM_PATIENTS)
    logits = as_logits(weights, moments, num_patients=NUM_PATIENTS)
    longest = max(LOGIT_SIZE / np.sqrt(LEAST_MEAN_SQUARE), np.linalg.norm(cross) / (LEAST_RIDGE * NUM_PATIENTS))
    assert np.linalg.norm(logits) <= longest * (1 + 1e-9) < 1e4
    np.testing.assert_allclose(logits * np.linalg.norm(weights), weights * np.linalg.norm(logits), atol=1e-6)
