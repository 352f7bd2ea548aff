"""Patient histograms: hand counts, the bound on what one patient moves, sums over sites, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.privacy.patient_histogram import MAX_MAGNITUDE, PatientHistogram
from tests.scored_patients import bin_numbers, cohorts, columns, histogram, lesion, one_patient, weighted

TOLERANCE = 1e-12


def cells(counts):
    return np.concatenate([counts.negatives, counts.positives])


def test_counts_by_hand():
    # Patient "a" has four lesions of both classes, "b" has one, "c" has two in one bin.
    counts = PatientHistogram.from_scores(
        [0, 0, 1, 1, 1, 0, 0], [0.0, 0.25, 0.3, 1.0, 0.5, 0.74, 0.5], ["a", "a", "a", "a", "b", "c", "c"], 4
    )
    assert counts.negatives.tolist() == [0.25, 0.25, 1, 0]
    assert counts.positives.tolist() == [0, 0.25, 1, 0.25]
    assert counts.noise_std == 0


@pytest.mark.parametrize("num_bins", [1, 5, 7])
def test_no_lesions_give_an_empty_histogram(num_bins):
    counts = PatientHistogram.from_scores([], [], [], num_bins)
    assert counts.negatives.tolist() == counts.positives.tolist() == [0.0] * num_bins


@given(st.lists(lesion, max_size=40), bin_numbers)
def test_bins_as_the_plain_histogram(rows, num_bins):
    labels, scores, patients = columns([[row] for row in rows])
    counts = PatientHistogram.from_scores(labels, scores, patients, num_bins)
    plain = ScoreHistogram.from_scores(labels, scores, num_bins)
    np.testing.assert_array_equal(counts.negatives, plain.negatives)
    np.testing.assert_array_equal(counts.positives, plain.positives)


@given(cohorts, one_patient, bin_numbers)
def test_one_patient_moves_the_vector_by_one(cohort, lesions, num_bins):
    moved = cells(weighted([lesions, *cohort], num_bins)) - cells(weighted(cohort, num_bins))
    assert np.abs(moved).sum() == pytest.approx(1, abs=TOLERANCE)
    assert np.linalg.norm(moved) <= 1 + TOLERANCE


@given(one_patient, one_patient, bin_numbers)
def test_every_patient_counts_once(first, second, num_bins):
    assert cells(weighted([first, second], num_bins)).sum() == pytest.approx(2, abs=TOLERANCE)


@given(cohorts, cohorts, cohorts, bin_numbers)
def test_sites_add_up_to_the_pooled_cohort(first, second, third, num_bins):
    a, b, c = (weighted(cohort, num_bins) for cohort in (first, second, third))
    together = cells(weighted(first + second + third, num_bins))
    for total in ((a + b) + c, a + (b + c), c + b + a):
        np.testing.assert_allclose(cells(total), together, atol=TOLERANCE)


def test_noise_is_added_where_it_belongs():
    noise = np.array([[0.5, -3.0], [0.25, 1.0]])
    noisy = histogram([1, 2], [3, 4]).with_noise(noise, 2.0)
    assert noisy.negatives.tolist() == [1.5, -1.0]
    assert noisy.positives.tolist() == [3.25, 5.0]
    assert noisy.noise_std == 2


@given(st.floats(-1e6, 1e6), st.floats(0, 100))
def test_counts_with_noise_are_on_a_grid(noise, count):
    """All bits of a sum would tell what the noise was added to."""
    noisy = histogram([count], [count]).with_noise(np.array([[noise], [-noise]]), 2.0)
    for value, exact in ((noisy.negatives[0], count + noise), (noisy.positives[0], count - noise)):
        assert value * 2**20 % 1 == 0
        assert abs(value - exact) <= 2.0**-21


def test_noise_adds_in_quadrature():
    first, second = histogram([1, 2], [3, 4], 3.0), histogram([1, 2], [3, 4], 4.0)
    assert (first + second).noise_std == pytest.approx(5)
    assert first.with_noise(np.zeros((2, 2)), 4.0).noise_std == pytest.approx(5)


def test_different_bins_do_not_add():
    with pytest.raises(ValueError, match="as many bins, got 1 and 2"):
        histogram([1], [1]) + histogram([1, 1], [1, 1])


@pytest.mark.parametrize(
    ("negatives", "positives", "noise_std", "message"),
    [
        ([1, 1], [1], 0.0, "to be the same"),
        ([], [], 0.0, "num_bins >= 1"),
        ([[1.0]], [[1.0]], 0.0, "to be the same"),
        ([math.nan, 1], [1, 1], 1.0, "negatives finite"),
        ([1, 1], [1, math.inf], 1.0, "positives finite"),
        ([1, -math.inf], [1, 1], 1.0, "negatives finite"),
        ([1, 1], [1, 2 * MAX_MAGNITUDE], 1.0, "positives finite and within"),
        ([1, 1], [1, -2 * MAX_MAGNITUDE], 1.0, "positives finite and within"),
        ([1, 1], [1, -0.5], 0.0, "positives >= 0 without noise, got -0.5"),
        ([1, 1], [1, 1], -1.0, "noise_std=-1.0 in"),
        ([1, 1], [1, 1], math.nan, "noise_std=nan in"),
        ([1, 1], [1, 1], math.inf, "noise_std=inf in"),
    ],
)
def test_refuses_impossible_counts(negatives, positives, noise_std, message):
    with pytest.raises(ValueError, match=message):
        histogram(negatives, positives, noise_std)


def test_refuses_integers():
    with pytest.raises(ValueError, match="negatives of float64, got int64"):
        PatientHistogram(negatives=np.array([1]), positives=np.array([1.0]), noise_std=0.0)


def test_takes_negative_counts_with_noise():
    assert histogram([-1, 1], [1, -5], 2.0).negatives.tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("noise", "std", "message"),
    [
        (np.zeros((2, 3)), 1.0, r"noise of \(2, 3\), float64 == \(2, 2\), float64"),
        (np.zeros(4), 1.0, r"noise of \(4,\)"),
        (np.zeros((2, 2), dtype=np.float32), 1.0, "float32"),
        (np.full((2, 2), math.nan), 1.0, "negatives finite"),
        (np.zeros((2, 2)), 0.0, "std=0.0 in"),
        (np.zeros((2, 2)), math.inf, "std=inf in"),
    ],
)
def test_refuses_noise_that_does_not_fit(noise, std, message):
    with pytest.raises(ValueError, match=message):
        histogram([1, 2], [3, 4]).with_noise(noise, std)


@pytest.mark.parametrize(
    ("labels", "scores", "patients", "num_bins", "message"),
    [
        ([0, 1], [0.5, 0.5], [1], 4, r"patients of shape \(1,\)"),
        ([0, 2], [0.5, 0.5], [1, 2], 4, "0 .benign. or 1 .malignant."),
        ([0, 1], [0.5, 1.5], [1, 2], 4, r"scores in \[0, 1\]"),
        ([0, 1], [0.5, math.nan], [1, 2], 4, "finite scores"),
        ([0, 1], [0.5, 0.5], [1, 2], 0, "num_bins=0 >= 1"),
    ],
)
def test_refuses_lesions_that_do_not_fit(labels, scores, patients, num_bins, message):
    with pytest.raises(ValueError, match=message):
        PatientHistogram.from_scores(labels, scores, patients, num_bins)
