"""Metrics from added histograms: against scikit-learn on the scores that the bins stand for, exact and noisy alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from server.evaluation.site_histograms import (
    histogram_auroc,
    operating_threshold,
    sensitivity_specificity,
    sum_histograms,
)
from shared_model.errors import CohortError
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.privacy.patient_histogram import PatientHistogram

NUM_BINS = 10
LESIONS = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=40)


def exact(rows, num_bins=NUM_BINS):
    labels, scores = zip(*rows, strict=True) if rows else ((), ())
    return ScoreHistogram.from_scores(labels, scores, num_bins)


def nearly_without_noise(histogram):
    """The same counts as a noisy histogram whose noise is too small to matter."""
    counts = (histogram.negatives.astype(np.float64), histogram.positives.astype(np.float64))
    return PatientHistogram(negatives=counts[0], positives=counts[1], noise_std=1e-9)


def cohort(num_lesions=200, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, num_lesions)
    scores = 1 / (1 + np.exp(-generator.normal(size=num_lesions) - 2 * labels + 1))
    return labels, scores


@given(LESIONS, LESIONS, LESIONS)
def test_the_sum_is_the_histogram_of_all_lesions_together(first, second, third):
    found = sum_histograms([exact(first), exact(second), exact(third)])
    pooled = exact(first + second + third)
    assert found.negatives.tolist() == pooled.negatives.tolist()
    assert found.positives.tolist() == pooled.positives.tolist()


def test_the_sum_of_one_is_that_one_and_of_none_an_error():
    assert sum_histograms([exact([(1, 0.5)])]).positives.sum() == 1
    with pytest.raises(TypeError, match="empty"):
        sum_histograms([])


@given(LESIONS)
def test_the_auroc_is_off_by_no_more_than_the_bound(rows):
    labels, scores = zip(*rows, strict=True)
    found = histogram_auroc(exact(rows))
    if len(set(labels)) < 2:
        assert found is None
        return
    assert abs(found.value - roc_auc_score(labels, scores)) <= found.binning_bound + 1e-12
    assert found.noise_standard_error == 0


def test_lesions_in_one_bin_count_half_and_may_be_anything():
    found = histogram_auroc(exact([(1, 0.51), (0, 0.59)]))
    assert found.value == 0.5
    assert found.binning_bound == 0.5


def test_without_noise_a_noisy_histogram_gives_the_same_auroc():
    labels, scores = cohort()
    histogram = exact(list(zip(labels, scores, strict=True)))
    noisy, plain = histogram_auroc(nearly_without_noise(histogram)), histogram_auroc(histogram)
    assert noisy.value == pytest.approx(plain.value, abs=1e-6)
    assert 0 < noisy.noise_standard_error < 1e-6


def test_noise_makes_a_standard_error():
    histogram = nearly_without_noise(exact(list(zip(*cohort(), strict=True))))
    errors = [
        histogram_auroc(
            PatientHistogram(negatives=histogram.negatives, positives=histogram.positives, noise_std=noise_std)
        ).noise_standard_error
        for noise_std in (0.5, 1.0)
    ]
    assert errors[1] == pytest.approx(2 * errors[0], rel=0.2)
    assert errors[0] > 1e-4


def test_noise_that_leaves_no_malignant_lesion_leaves_no_auroc():
    histogram = PatientHistogram(negatives=np.full(4, 5.0), positives=np.full(4, -1.0), noise_std=2.0)
    assert histogram_auroc(histogram) is None


@pytest.mark.parametrize("target", [0.5, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("as_noisy", [False, True])
def test_the_threshold_reaches_the_target_and_the_next_edge_does_not(target, as_noisy):
    labels, scores = cohort(seed=1)
    histogram = exact(list(zip(labels, scores, strict=True)))
    # A target that is met exactly may fall to either side of an edge under the smallest noise.
    threshold = operating_threshold(nearly_without_noise(histogram) if as_noisy else histogram, target - 1e-6)
    malignant = np.floor(scores[labels == 1] * NUM_BINS) / NUM_BINS
    assert (malignant >= threshold - 1e-9).mean() >= target - 1e-6
    assert (malignant >= threshold + 1 / NUM_BINS - 1e-9).mean() < target
    assert threshold * NUM_BINS == pytest.approx(round(threshold * NUM_BINS))


def test_a_threshold_needs_a_malignant_lesion():
    with pytest.raises(CohortError, match="a malignant lesion among the sites' validation patients"):
        operating_threshold(exact([(0, 0.5)]), 0.9)
    assert operating_threshold(exact([]), 0.9) is None
    hidden = PatientHistogram(negatives=np.full(4, 5.0), positives=np.full(4, -1.0), noise_std=2.0)
    assert operating_threshold(hidden, 0.9) is None


@given(LESIONS, st.integers(0, NUM_BINS - 1))
def test_rates_are_those_of_a_loop(rows, edge):
    threshold = edge / NUM_BINS
    sensitivity, specificity = sensitivity_specificity(exact(rows), threshold)
    binned = [(label, min(int(np.floor(score * NUM_BINS)), NUM_BINS - 1) >= edge) for label, score in rows]
    malignant = [call for label, call in binned if label]
    benign = [not call for label, call in binned if not label]
    assert sensitivity == (pytest.approx(np.mean(malignant)) if malignant else None)
    assert specificity == (pytest.approx(np.mean(benign)) if benign else None)


def test_rates_of_a_noisy_histogram():
    labels, scores = cohort()
    histogram = exact(list(zip(labels, scores, strict=True)))
    noisy = sensitivity_specificity(nearly_without_noise(histogram), 0.4)
    assert noisy == pytest.approx(sensitivity_specificity(histogram, 0.4), abs=1e-6)
    hidden = PatientHistogram(negatives=np.full(10, 5.0), positives=np.full(10, -1.0), noise_std=2.0)
    sensitivity, specificity = sensitivity_specificity(hidden, 0.4)
    assert sensitivity is None
    assert specificity == pytest.approx(0.4, abs=0.05)
