"""Moments of a patient: by hand, bounded whatever the inputs are, and read back as they were added up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared_model.privacy.patient_moments import SECOND_WEIGHT, Moments, noise_edge, num_moments, patient_moments

ENTRIES = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-30, 3e38, -3e38, 1e200, float("nan"), float("inf"), 7.25])


def test_by_hand():
    inputs, labels = np.array([[0.1, 0.2], [0.3, 0.0]]), np.array([1.0, 0.0])
    second = [(0.01 + 0.09) / 2, 2**0.5 * 0.02 / 2, 0.04 / 2]
    cross = [(0.1 - 0.3) / 2, 0.2 / 2]
    expected = [*(SECOND_WEIGHT * np.array(second)), *cross]
    np.testing.assert_allclose(patient_moments(inputs, labels), expected, atol=1e-15)


def test_a_long_vector_keeps_its_direction():
    inputs, labels = np.array([[3.0, 4.0]]), np.array([0.0])
    vector = patient_moments(inputs, labels)
    assert np.linalg.norm(vector) == pytest.approx(1)
    moments = Moments.from_vector(vector, width=2)
    np.testing.assert_allclose(moments.second / moments.second[0, 0], [[1, 4 / 3], [4 / 3, 16 / 9]])
    np.testing.assert_allclose(moments.cross / moments.second[0, 0], np.array([-3, -4]) / 9)


@settings(max_examples=300)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=ENTRIES),
    st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=4),
)
def test_no_patient_adds_more_than_length_one(inputs, labels):
    vector = patient_moments(inputs, np.array(labels[: len(inputs)]))
    assert vector.shape == (num_moments(inputs.shape[1]),)
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) <= 1 + 1e-12
    if not np.isfinite(inputs).all():
        assert not vector.any()


@given(hnp.arrays(np.float64, (7, 4), elements=st.floats(-1, 1)), st.integers(0, 2**7 - 1))
def test_sums_are_read_back_as_matrix_and_vector(inputs, outcomes):
    labels = np.array([float(outcomes >> row & 1) for row in range(7)])
    small = 0.3 * inputs
    total = sum(patient_moments(small[[row]], labels[[row]]) for row in range(7))
    moments = Moments.from_vector(total, width=4)
    np.testing.assert_allclose(moments.second, small.T @ small, atol=1e-12)
    np.testing.assert_allclose(moments.cross, (2 * labels - 1) @ small, atol=1e-12)


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"Expected 14 moments of 4 inputs, got shape \(13,\)"):
        Moments.from_vector(np.zeros(13), width=4)


@pytest.mark.parametrize("factor", [1.0, 2 / 3, 3 / 2])
def test_the_edge_is_that_of_the_eigenvalues_of_noise(factor):
    width, std, generator = 60, 2.5, np.random.default_rng(0)
    largest = [
        np.linalg.eigvalsh(Moments.from_vector(factor * std * row, width=width).second).max()
        for row in generator.normal(size=(40, num_moments(width)))
    ]
    assert (abs(np.mean(largest) / noise_edge(std, width) - 1) < 0.1) == (factor == 1.0)
