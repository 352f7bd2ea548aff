"""Metrics of noisy patient histograms against scikit-learn, naive loops and draws of the noise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from server.evaluation import exact_histograms
from server.evaluation.noisy_histograms import (
    MARGIN_QUANTILE,
    MIN_TOTAL_TO_NOISE,
    AurocUncertainty,
    RateEstimate,
    auroc,
    auroc_uncertainty,
    sensitivity_specificity,
    threshold_for_sensitivity,
)
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.privacy.noise_calibration import calibrate_noise
from shared_model.privacy.patient_histogram import PatientHistogram
from tests.scored_patients import bin_numbers, cohorts, columns, histogram, lesion, weighted

TOLERANCE = 1e-12
NUM_SITES = 3
NUM_DRAWS = 1000


def both_classes(cohort):
    return {label for lesions in cohort for label, _ in lesions} == {0, 1}


def pooled_cohort(seed=0, num_patients=200):
    """As the test side of CBIS-DDSM masses: 1.9 lesions a patient, two in five malignant; half of the odds shared."""
    generator = np.random.default_rng(seed)
    num_lesions = round(1.9 * num_patients)
    patients = np.concatenate(
        [np.arange(num_patients), generator.integers(0, num_patients, num_lesions - num_patients)]
    )
    is_mostly_malignant = np.arange(num_patients) % 5 < 2
    labels = np.where(
        generator.random(num_lesions) < 0.95, is_mostly_malignant[patients], generator.random(num_lesions) < 0.5
    )
    logits = 1.1 * (labels - 0.5) + 0.6 * generator.normal(size=num_patients)[patients]
    scores = 1 / (1 + np.exp(-logits - 0.8 * generator.normal(size=num_lesions)))
    return labels.astype(int), scores, patients


def true_auroc(labels, scores, patients):
    weights = np.array([1 / (patients == patient).sum() for patient in patients])
    return roc_auc_score(labels, scores, sample_weight=weights)


def at_sites(labels, scores, patients, num_bins):
    rows = [patients % NUM_SITES == site for site in range(NUM_SITES)]
    return [PatientHistogram.from_scores(labels[i], scores[i], patients[i], num_bins) for i in rows]


def released(sites, std, generator):
    first, *others = (site.with_noise(generator.normal(scale=std, size=(2, site.num_bins)), std) for site in sites)
    return sum(others, start=first)


def draws_of(sites, std, seed=1, num_draws=NUM_DRAWS):
    generator = np.random.default_rng(seed)
    return [released(sites, std, generator) for _ in range(num_draws)]


class TestAuroc:
    def test_by_hand(self):
        # Pairs: 1 x 1 tied in bin 0, 3 x (1 + 1) won from below bins 1 and 2, and 2 x 1 won, 2 x 1 tied in bin 1.
        counts = histogram([1, 2, 0], [1, 1, 1])
        assert auroc(counts) == pytest.approx((0.5 + (1 + 1) + 3) / 9)
        assert auroc_uncertainty(counts).binning_bound == pytest.approx(1.5 / 9)
        assert auroc_uncertainty(counts).noise_standard_error == 0

    @given(cohorts.filter(both_classes), bin_numbers)
    def test_within_the_bound_of_scikit_learn(self, cohort, num_bins):
        counts = weighted(cohort, num_bins)
        bound = auroc_uncertainty(counts).binning_bound
        assert abs(auroc(counts) - true_auroc(*columns(cohort))) <= bound + TOLERANCE

    @given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), max_size=60))
    def test_equals_scikit_learn_on_binned_scores(self, rows):
        cohort = [[(label, step / 10)] for label, step in rows]
        if both_classes(cohort):
            labels, scores, _ = columns(cohort)
            assert auroc(weighted(cohort, 10)) == pytest.approx(roc_auc_score(labels, scores), abs=TOLERANCE)

    @given(st.lists(lesion, max_size=40), bin_numbers)
    def test_agrees_with_the_plain_histogram_at_one_lesion_each(self, rows, num_bins):
        cohort = [[row] for row in rows]
        labels, scores, _ = columns(cohort)
        plain, counts = ScoreHistogram.from_scores(labels, scores, num_bins), weighted(cohort, num_bins)
        expected = exact_histograms.auroc(plain)
        assert auroc(counts) == (None if expected is None else pytest.approx(expected, abs=TOLERANCE))
        error = auroc_uncertainty(counts)
        if expected is None:
            assert error is None
        else:
            assert error.binning_bound == pytest.approx(exact_histograms.auroc_binning_bound(plain), abs=TOLERANCE)

    def test_stays_in_range_under_noise(self):
        assert auroc(histogram([20, -1], [-1, 20], 1.0)) == 1
        assert auroc(histogram([-1, 20], [20, -1], 1.0)) == 0
        assert auroc_uncertainty(histogram([20, -1], [-1, 20], 1.0)).binning_bound == 0

    @pytest.mark.parametrize("weak", ["negatives", "positives"])
    def test_none_unless_both_classes_stand_above_the_noise(self, weak):
        # The noise of a total of four bins is 2 * noise_std.
        for factor, is_seen in ((0.99, False), (1.01, True)):
            counts = {"negatives": np.full(4, 50.0), "positives": np.full(4, 50.0)}
            counts[weak] = np.full(4, factor * MIN_TOTAL_TO_NOISE * 2 * 1.5 / 4)
            noisy = PatientHistogram(**counts, noise_std=1.5)
            assert (auroc(noisy) is not None) == is_seen
            assert (auroc_uncertainty(noisy) is not None) == is_seen

    def test_a_class_without_patients_is_rarely_taken_for_one(self):
        generator = np.random.default_rng(0)
        empty = histogram([100] * 10, [0] * 10)
        noisy = [empty.with_noise(generator.normal(scale=2.0, size=(2, 10)), 2.0) for _ in range(4000)]
        num_seen = sum(auroc(counts) is not None for counts in noisy)
        # 5.4 expected; more than 20 has probability below 1e-6.
        assert num_seen <= 20

    @pytest.mark.parametrize(
        ("target_epsilon", "num_bins"), [(1, 10), (2, 10), (2, 20), (4, 10), (4, 20), (8, 20), (8, 50)]
    )
    def test_the_stated_error_is_the_error(self, target_epsilon, num_bins):
        cohort = pooled_cohort()
        truth, sites = true_auroc(*cohort), at_sites(*cohort, num_bins)
        std = calibrate_noise(target_epsilon, delta=1e-4, sampling_rate=1, num_steps=1)
        draws = [draw for draw in draws_of(sites, std) if auroc(draw) is not None]
        assert len(draws) >= 0.9 * NUM_DRAWS
        values = np.array([auroc(draw) for draw in draws])
        errors = [auroc_uncertainty(draw) for draw in draws]
        stated = np.array([error.noise_standard_error for error in errors])
        bounds = np.array([error.binning_bound for error in errors])
        exact = auroc(sum(sites[1:], start=sites[0]))

        assert 0.85 <= values.std() / np.median(stated) <= 1.15
        # Four standard errors of the mean, and a bias of second order.
        assert abs(values.mean() - exact) <= 4 * values.std() / math.sqrt(NUM_DRAWS) + 0.1 * values.std()
        assert np.mean(np.abs(values - exact) <= 1.96 * stated) >= 0.93
        assert np.mean(np.abs(values - truth) <= bounds + 1.96 * stated) >= 0.95

    @pytest.mark.parametrize("factor", [2 / 3, 3 / 2])
    def test_a_wrong_noise_scale_would_show(self, factor):
        sites = at_sites(*pooled_cohort(), 10)
        generator = np.random.default_rng(2)
        noises = generator.normal(scale=factor, size=(500, NUM_SITES, 2, 10))
        draws = [
            sum((site.with_noise(part, 1.0) for site, part in zip(sites, noise, strict=True)), start=empty(10))
            for noise in noises
        ]
        stated = np.median([auroc_uncertainty(draw).noise_standard_error for draw in draws])
        assert not 0.85 <= np.std([auroc(draw) for draw in draws]) / stated <= 1.15

    def test_the_binning_bound_is_estimated_without_bias(self):
        sites = at_sites(*pooled_cohort(), 10)
        exact = auroc_uncertainty(sum(sites, start=empty(10))).binning_bound
        bounds = np.array([auroc_uncertainty(draw).binning_bound for draw in draws_of(sites, 1.0)])
        assert abs(bounds.mean() - exact) <= 4 * bounds.std() / math.sqrt(NUM_DRAWS) + 0.05 * exact


def empty(num_bins):
    return histogram([0] * num_bins, [0] * num_bins)


class TestSensitivitySpecificity:
    def test_by_hand(self):
        point = sensitivity_specificity(histogram([30, 10, 0], [0, 10, 30], 2.0), 2 / 3)
        # Sensitivity 30 / 40: one bin called, two not. Specificity 40 / 40: two bins below, one not.
        assert point.sensitivity.value == pytest.approx(0.75)
        assert point.sensitivity.standard_error == pytest.approx(2 / 40 * math.sqrt(0.25**2 + 2 * 0.75**2))
        assert point.specificity.value == 1
        assert point.specificity.standard_error == pytest.approx(2 / 40)

    @given(st.lists(lesion, max_size=40), st.integers(0, 9))
    def test_agrees_with_the_plain_histogram_at_one_lesion_each(self, rows, edge):
        cohort = [[row] for row in rows]
        labels, scores, _ = columns(cohort)
        plain = exact_histograms.confusion_counts(ScoreHistogram.from_scores(labels, scores, 10), edge / 10)
        point = sensitivity_specificity(weighted(cohort, 10), edge / 10)
        for estimate, expected in ((point.sensitivity, plain.sensitivity), (point.specificity, plain.specificity)):
            if expected is None:
                assert estimate is None
            else:
                assert estimate.value == pytest.approx(expected, abs=TOLERANCE)
                assert estimate.standard_error == 0

    def test_a_class_below_its_noise_has_no_rate(self):
        point = sensitivity_specificity(histogram([30, 30], [1, 1], 1.0), 0.5)
        assert point.sensitivity is None
        assert point.specificity.value == 0.5

    def test_inside_a_bin_the_part_above_the_threshold_is_called(self):
        point = sensitivity_specificity(histogram([30, 10], [10, 30], 2.0), 0.25)
        # Half of the lower bin and all of the upper: 35 of 40; the other half is below: 15 of 40.
        assert point.sensitivity.value == pytest.approx(0.875)
        assert point.specificity.value == pytest.approx(0.375)
        assert point.sensitivity.standard_error == pytest.approx(2 / 40 * math.hypot(0.5 - 0.875, 1 - 0.875))
        everything = sensitivity_specificity(histogram([30, 10], [10, 30], 2.0), 1.0)
        assert (everything.sensitivity.value, everything.specificity.value) == (0, 1)

    @pytest.mark.parametrize("threshold", [1.01, -0.1, math.nan])
    def test_refuses_a_threshold_that_no_score_can_be(self, threshold):
        with pytest.raises(ValueError, match=r"Expected threshold=.* in \[0, 1\]"):
            sensitivity_specificity(empty(10), threshold)

    @pytest.mark.parametrize("target_epsilon", [1, 4])
    @pytest.mark.parametrize("threshold", [0.4, 0.5, 0.6])
    def test_the_stated_error_is_the_error(self, target_epsilon, threshold):
        sites = at_sites(*pooled_cohort(), 10)
        std = calibrate_noise(target_epsilon, delta=1e-4, sampling_rate=1, num_steps=1)
        exact = sensitivity_specificity(sum(sites, start=empty(10)), threshold)
        points = [sensitivity_specificity(draw, threshold) for draw in draws_of(sites, std)]
        for name in ("sensitivity", "specificity"):
            estimates = [getattr(point, name) for point in points if getattr(point, name) is not None]
            assert len(estimates) >= 0.9 * NUM_DRAWS
            values = np.array([estimate.value for estimate in estimates])
            stated = np.array([estimate.standard_error for estimate in estimates])
            misses = np.abs(values - getattr(exact, name).value)
            # The cut to [0, 1] takes from the spread, so the quantile is compared, not the deviation.
            assert 0.8 <= np.quantile(misses / stated, 0.683) <= 1.15
            assert np.mean(misses <= 1.96 * stated) >= 0.93


class TestThresholdForSensitivity:
    def test_by_hand(self):
        # Sensitivities at the four edges: 1, 0.9, 0.6, 0.2.
        counts = histogram([1, 1, 1, 1], [10, 30, 40, 20])
        thresholds = [threshold_for_sensitivity(counts, target) for target in (1, 0.95, 0.9, 0.6, 0.55, 0.2, 0.1)]
        assert thresholds == [0, 0, 0.25, 0.5, 0.5, 0.75, 0.75]

    @given(
        st.lists(lesion, min_size=1, max_size=40).filter(lambda rows: any(label for label, _ in rows)),
        bin_numbers,
        # Multiples of half of a prime's reciprocal lie clear of every share of up to 40 lesions.
        st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]) | st.integers(0, 996).map(lambda step: (step + 0.5) / 997),
    )
    def test_agrees_with_the_plain_histogram_without_noise(self, rows, num_bins, target):
        cohort = [[row] for row in rows]
        labels, scores, _ = columns(cohort)
        expected = exact_histograms.threshold_for_sensitivity(
            ScoreHistogram.from_scores(labels, scores, num_bins), target
        )
        assert threshold_for_sensitivity(weighted(cohort, num_bins), target) == expected

    def test_reaches_a_target_that_thirds_meet_exactly(self):
        # Eight of ten patients above the edge; thirds summed in float64 fall short of 8 by 9e-16.
        cohort = [[(1, 0.6)] * 3] * 8 + [[(1, 0.1)] * 3] * 2
        assert threshold_for_sensitivity(weighted(cohort, 2), 0.8) == 0.5

    def test_the_margin_by_hand(self):
        # At edge 0.5 of two bins: excess 90 - 0.8 * 100 = 10, standard deviation 2 * sqrt(0.2^2 + 0.8^2) per unit.
        limit = 10 / (MARGIN_QUANTILE * math.sqrt(0.2**2 + 0.8**2))
        assert threshold_for_sensitivity(histogram([0, 0], [10, 90], 0.999 * limit), 0.8) == 0.5
        assert threshold_for_sensitivity(histogram([0, 0], [10, 90], 1.001 * limit), 0.8) == 0

    def test_stops_at_the_first_failure(self):
        # The noisy sensitivity falls to 0.5 and, by a negative bin, rises again to 0.9.
        counts = histogram([0] * 4, [10, 40, -40, 90], 0.5)
        assert threshold_for_sensitivity(counts, 0.8) == 0.25

    def test_none_when_malignant_patients_drown_in_the_noise(self):
        assert threshold_for_sensitivity(histogram([9, 9], [1, 1], 1.0), 0.9) is None
        assert threshold_for_sensitivity(histogram([9, 9], [0, 0]), 0.9) is None

    @pytest.mark.parametrize("target", [0, -0.1, 1.1, math.nan])
    def test_refuses_an_impossible_target(self, target):
        with pytest.raises(ValueError, match=r"target_sensitivity=.* in \(0, 1\]"):
            threshold_for_sensitivity(histogram([1], [1]), target)

    @pytest.mark.parametrize("target_epsilon", [1, 4, 8])
    @pytest.mark.parametrize("target", [0.8, 0.9])
    def test_seldom_misses_the_target(self, target_epsilon, target):
        sites = at_sites(*pooled_cohort(), 10)
        pooled = sum(sites, start=empty(10))
        std = calibrate_noise(target_epsilon, delta=1e-4, sampling_rate=1, num_steps=1)
        thresholds = [threshold_for_sensitivity(draw, target) for draw in draws_of(sites, std)]
        chosen = [threshold for threshold in thresholds if threshold is not None]
        assert len(chosen) >= 0.9 * NUM_DRAWS
        reached = [sensitivity_specificity(pooled, threshold).sensitivity.value for threshold in chosen]
        # 5 % allowed; 0.021 is three standard errors of a share of 5 % over the draws.
        assert np.mean(np.array(reached) < target) <= 0.05 + 0.021

    def test_finds_the_exact_threshold_as_the_noise_fades(self):
        sites = at_sites(*pooled_cohort(), 10)
        exact = threshold_for_sensitivity(sum(sites, start=empty(10)), 0.9)
        assert exact > 0
        thresholds = [threshold_for_sensitivity(draw, 0.9) for draw in draws_of(sites, 0.01, num_draws=100)]
        assert thresholds == [exact] * 100


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AurocUncertainty(binning_bound=0.6, noise_standard_error=0.1), "binning_bound=0.6"),
        (lambda: AurocUncertainty(binning_bound=0.1, noise_standard_error=-0.1), "noise_standard_error=-0.1"),
        (lambda: RateEstimate(value=1.1, standard_error=0.1), "value=1.1"),
        (lambda: RateEstimate(value=0.1, standard_error=math.nan), "standard_error=nan"),
    ],
)
def test_refuses_impossible_estimates(build, message):
    with pytest.raises(ValueError, match=message):
        build()
