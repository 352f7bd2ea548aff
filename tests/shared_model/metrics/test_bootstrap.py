"""Intervals over patients against loops that copy the drawn lesions, and how often they hold the truth."""

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from shared_model.metrics import bootstrap
from shared_model.metrics.bootstrap import (
    BAND_POINTS,
    bootstrap_intervals,
    bootstrap_mean_interval,
    bootstrap_roc_band,
)
from shared_model.metrics.calibration import brier_score, expected_calibration_error, net_benefit
from shared_model.metrics.confusion import ConfusionCounts, metric_at_threshold, sensitivity_at, specificity_at
from shared_model.metrics.counts import ClassCounts, Metric
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.metrics.ranking import (
    average_precision,
    partial_auroc,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from shared_model.metrics.roc import auroc, auroc_from_counts, roc_curve

TOLERANCE = 1e-12
FIGURES = {
    "auroc": auroc_from_counts,
    "partial_auroc": partial_auroc(0.1),
    "average_precision": average_precision,
    "sensitivity": sensitivity_at(0.5),
    "specificity": specificity_at(0.5),
    "balanced_accuracy": metric_at_threshold(0.5, lambda calls: calls.balanced_accuracy),
    "f1": metric_at_threshold(0.5, lambda calls: calls.f1),
    "ppv": metric_at_threshold(0.9, lambda calls: calls.ppv()),
    "npv": metric_at_threshold(0.1, lambda calls: calls.npv()),
    "ppv_at_prevalence": metric_at_threshold(0.5, lambda calls: calls.ppv(0.01)),
    "npv_at_prevalence": metric_at_threshold(0.5, lambda calls: calls.npv(0.01)),
    "sensitivity_at_specificity": sensitivity_at_specificity(0.9),
    "specificity_at_sensitivity": specificity_at_sensitivity(0.9),
    "brier": brier_score,
    "calibration_error": expected_calibration_error,
    "net_benefit": net_benefit(0.3),
    "net_benefit_at_prevalence": net_benefit(0.3, 0.01),
}


def resampled_one_by_one(labels, scores, patients, num_resamples, generator):
    """Yield the counts of drawn patients, whose lesions are copied; draws of one class do not count."""
    names = sorted(set(patients))
    while num_resamples:
        drawn = generator.integers(len(names), size=len(names))
        rows = [row for i in drawn for row in range(len(labels)) if patients[row] == names[i]]
        if len(set(labels[rows])) == 2:
            num_resamples -= 1
            # All scores, so that a score of nobody is in the counts too.
            distinct = np.unique(scores)
            yield ClassCounts(
                scores=distinct,
                negatives=np.array([np.sum((labels[rows] == 0) & (scores[rows] == s)) for s in distinct]),
                positives=np.array([np.sum((labels[rows] == 1) & (scores[rows] == s)) for s in distinct]),
            )


def bootstrap_interval(labels, scores, patients, metric, **arguments):
    """Return the interval of one metric."""
    return bootstrap_intervals(labels, scores, patients, {"metric": metric}, **arguments)["metric"]


class TestBootstrap:
    METRICS = (
        ("auroc", auroc_from_counts, reference.roc_auc_score),
        (
            "sensitivity",
            sensitivity_at(0.5),
            lambda y, s: ConfusionCounts.from_scores(y, s, 0.5).sensitivity,
        ),
        (
            "specificity",
            specificity_at(0.5),
            lambda y, s: ConfusionCounts.from_scores(y, s, 0.5).specificity,
        ),
    )

    @pytest.mark.parametrize(("name", "metric", "naive"), METRICS)
    @pytest.mark.parametrize("num_steps", [None, 5])
    def test_equals_a_loop_that_copies_the_drawn_patients(self, cohort, name, metric, naive, num_steps):
        labels, scores, patients = cohort(3, num_lesions=40, num_steps=num_steps)
        interval = bootstrap_interval(
            labels, scores, patients, metric, num_resamples=60, generator=np.random.default_rng(8)
        )
        generator, names, values = np.random.default_rng(8), sorted(set(patients)), []
        for _ in range(60):
            drawn = generator.integers(len(names), size=len(names))
            rows = [row for i in drawn for row in range(len(labels)) if patients[row] == names[i]]
            values.append(naive(labels[rows], scores[rows]))
        expected = np.percentile(values, [2.5, 97.5])
        np.testing.assert_allclose([interval.low, interval.high], expected, rtol=0, atol=TOLERANCE)

    @pytest.mark.parametrize("values_at_once", [1, 100, 10**9])
    @pytest.mark.parametrize("num_steps", [None, 5])
    def test_every_figure_of_a_block_is_that_of_its_resamples_one_by_one(
        self, cohort, monkeypatch, num_steps, values_at_once
    ):
        monkeypatch.setattr(bootstrap, "_VALUES_AT_ONCE", values_at_once)
        labels, scores, patients = cohort(3, num_lesions=40, num_steps=num_steps)
        found = bootstrap_intervals(
            labels, scores, patients, FIGURES, num_resamples=60, generator=np.random.default_rng(8)
        )
        plain = list(resampled_one_by_one(labels, scores, patients, 60, np.random.default_rng(8)))
        for name, figure in FIGURES.items():
            values = [value for counts in plain if (value := figure(counts)) is not None]
            assert (found[name] is None) == (len(values) < 0.95 * 60), name
            if found[name] is not None:
                low, high = np.percentile(values, [2.5, 97.5])
                assert (found[name].low, found[name].high) == pytest.approx((low, high), rel=0, abs=4e-16), name

    @pytest.mark.parametrize("values_at_once", [1, 60, 10**9])
    def test_resamples_of_one_class_are_drawn_again_as_by_a_loop(self, monkeypatch, values_at_once):
        monkeypatch.setattr(bootstrap, "_VALUES_AT_ONCE", values_at_once)
        scores, patients = np.random.default_rng(0).random(12), np.arange(12)
        labels = (patients == 3).astype(int)
        found = bootstrap_interval(
            labels, scores, patients, auroc_from_counts, num_resamples=50, generator=np.random.default_rng(2)
        )
        plain = resampled_one_by_one(labels, scores, patients, 50, np.random.default_rng(2))
        low, high = np.percentile([auroc_from_counts(counts) for counts in plain], [2.5, 97.5])
        assert (found.low, found.high) == pytest.approx((low, high), rel=0, abs=4e-16)

    @pytest.mark.parametrize("values_at_once", [2, 4, 10**9])
    def test_draws_in_vain_are_counted_over_blocks(self, monkeypatch, values_at_once):
        monkeypatch.setattr(bootstrap, "_VALUES_AT_ONCE", values_at_once)
        monkeypatch.setattr(bootstrap, "MAX_DRAWS", 3)

        class Scripted(np.random.Generator):
            """Draws both patients, or the first alone, as the script says."""

            def __init__(self, script):
                super().__init__(np.random.PCG64(0))
                self.script = iter(script)

            def integers(self, _high, size):
                return np.array([[0, int(next(self.script))] for _ in range(size[0])])

        arguments = {"metric": auroc_from_counts, "num_resamples": 4}
        enough = bootstrap_interval([0, 1], [0.1, 0.9], [0, 1], generator=Scripted("1001001100"), **arguments)
        assert enough == ConfidenceInterval(low=1.0, high=1.0)
        with pytest.raises(ValueError, match="none in 3 draws"):
            bootstrap_interval([0, 1], [0.1, 0.9], [0, 1], generator=Scripted("1100011000000"), **arguments)

    def test_a_resample_of_one_class_is_drawn_again(self):
        labels, scores, patients = [0, 1, 1], [0.1, 0.9, 0.8], [0, 1, 2]
        generator = np.random.default_rng(0)
        interval = bootstrap_interval(
            labels, scores, patients, auroc_from_counts, num_resamples=50, generator=generator
        )
        assert interval == ConfidenceInterval(low=1.0, high=1.0)

    def test_gives_up_when_no_resample_can_hold_both_classes(self, monkeypatch):
        monkeypatch.setattr(bootstrap, "MAX_DRAWS", 3)

        class OnlyTheFirst(np.random.Generator):
            def integers(self, low, size):
                return np.zeros(size, dtype=int)

        generator = OnlyTheFirst(np.random.PCG64(0))
        with pytest.raises(ValueError, match="none in 3 draws"):
            bootstrap_interval([0, 1], [0.1, 0.9], [0, 1], auroc_from_counts, num_resamples=1, generator=generator)

    def test_covers_the_truth_about_as_often_as_it_says_for_clustered_lesions(self):
        num_patients, num_trials, covered = 60, 300, 0
        truth = 0.5 * (1 + math.erf(1.2 / math.sqrt(2 * 1.5) / math.sqrt(2)))
        generator = np.random.default_rng(5)
        for _ in range(num_trials):
            patients = np.repeat(np.arange(num_patients), 3)
            labels = np.repeat(np.arange(num_patients) % 2, 3)
            shared = np.repeat(generator.normal(size=num_patients), 3)
            scores = 1.2 * labels + shared + math.sqrt(0.5) * generator.normal(size=len(labels))
            interval = bootstrap_interval(
                labels, scores, patients, auroc_from_counts, num_resamples=200, generator=generator
            )
            covered += interval.low <= truth <= interval.high
        # 600 trials gave 0.947, and 0.835 for lesions drawn singly, which 300 trials tell apart to about 1 in 1000.
        assert 0.90 <= covered / num_trials <= 0.985

    def test_scores_are_sorted_once_whatever_the_number_of_resamples(self, cohort, monkeypatch):
        labels, scores, patients = cohort(1, num_lesions=10_000)
        sorted_sizes = []
        for name in ("argsort", "sort", "unique"):
            whole = getattr(np, name)

            def counted(values, *arguments, whole=whole, **options):
                sorted_sizes.append(np.size(values))
                return whole(values, *arguments, **options)

            monkeypatch.setattr(np, name, counted)
        interval = bootstrap_interval(
            labels, scores, patients, auroc_from_counts, num_resamples=2000, generator=np.random.default_rng(0)
        )
        # Once to order the scores, and once each to find the distinct scores and the distinct patients.
        assert sum(size >= len(scores) for size in sorted_sizes) == 3
        assert interval.low < auroc(labels, scores) < interval.high

    def test_the_generator_alone_decides(self, cohort):
        labels, scores, patients = cohort(2)
        first, second, third = (
            bootstrap_interval(
                labels, scores, patients, auroc_from_counts, num_resamples=50, generator=np.random.default_rng(seed)
            )
            for seed in (4, 4, 5)
        )
        assert first == second != third

    def test_several_metrics_see_the_same_resamples(self, cohort):
        labels, scores, patients = cohort(4)
        metrics = {"auroc": auroc_from_counts, "average_precision": average_precision}
        arguments = {"num_resamples": 40}
        together = bootstrap_intervals(
            labels, scores, patients, metrics, **arguments, generator=np.random.default_rng(1)
        )
        for name, metric in metrics.items():
            generator = np.random.default_rng(1)
            alone = bootstrap_interval(labels, scores, patients, metric, **arguments, generator=generator)
            assert together[name] == alone

    @pytest.mark.parametrize(("share", "is_defined"), [(0.02, True), (0.2, False)])
    def test_what_is_too_often_undefined_has_no_interval(self, cohort, share, is_defined):
        labels, scores, patients = cohort(5)
        count = iter(range(1000))

        @Metric
        def metric(counts):
            return np.array([np.nan if next(count) < share * 200 else 0.5 for _ in counts.positives])

        interval = bootstrap_interval(
            labels, scores, patients, metric, num_resamples=200, generator=np.random.default_rng(1)
        )
        assert interval == (ConfidenceInterval(low=0.5, high=0.5) if is_defined else None)

    def test_one_patient_per_class_has_no_spread(self):
        interval = bootstrap_interval(
            [0, 0, 1],
            [0.1, 0.5, 0.3],
            [7, 7, 9],
            auroc_from_counts,
            num_resamples=20,
            generator=np.random.default_rng(0),
        )
        assert interval == ConfidenceInterval(low=0.5, high=0.5)

    @pytest.mark.parametrize(
        ("labels", "patients", "num_resamples", "message"),
        [
            ([0, 1], [0], 10, r"patients of shape \(1,\) to be \(2,\)"),
            ([1, 1], [0, 1], 10, "both classes, got 0 benign, 2 malignant"),
            ([0, 1], [0, 1], 0, "num_resamples=0 >= 1"),
        ],
    )
    def test_refuses_what_does_not_fit(self, labels, patients, num_resamples, message):
        arguments = {"num_resamples": num_resamples, "generator": np.random.default_rng(0)}
        with pytest.raises(ValueError, match=message):
            bootstrap_interval(labels, [0.1, 0.9], patients, auroc_from_counts, **arguments)
        with pytest.raises(ValueError, match=message):
            bootstrap_roc_band(labels, [0.1, 0.9], patients, **arguments)


class TestMeanOverNetworks:
    def test_of_one_network_is_the_interval_of_the_metric(self, cohort):
        labels, scores, patients = cohort(3, num_lesions=40)
        found = bootstrap_mean_interval(
            labels, [scores], patients, auroc_from_counts, num_resamples=50, generator=np.random.default_rng(1)
        )
        seed = int(np.random.default_rng(1).integers(2**63))
        assert found == bootstrap_interval(
            labels, scores, patients, auroc_from_counts, num_resamples=50, generator=np.random.default_rng(seed)
        )

    def test_equals_a_loop_in_which_all_networks_see_the_same_patients(self, cohort):
        labels, scores, patients = cohort(3, num_lesions=40)
        others = np.random.default_rng(2).random(len(labels))
        found = bootstrap_mean_interval(
            labels, [scores, others], patients, auroc_from_counts, num_resamples=50, generator=np.random.default_rng(1)
        )
        generator = np.random.default_rng(int(np.random.default_rng(1).integers(2**63)))
        names, values = sorted(set(patients)), []
        for _ in range(50):
            drawn = generator.integers(len(names), size=len(names))
            rows = [row for i in drawn for row in range(len(labels)) if patients[row] == names[i]]
            values.append(np.mean([reference.roc_auc_score(labels[rows], s[rows]) for s in (scores, others)]))
        np.testing.assert_allclose([found.low, found.high], np.percentile(values, [2.5, 97.5]), rtol=0, atol=TOLERANCE)

    def test_needs_a_network(self):
        with pytest.raises(ValueError, match="scores of at least one network"):
            bootstrap_mean_interval(
                [0, 1], [], [0, 1], auroc_from_counts, num_resamples=5, generator=np.random.default_rng(0)
            )


class TestBootstrapRocBand:
    def test_equals_a_loop_over_scikit_learn_curves(self, cohort):
        labels, scores, patients = cohort(6, num_lesions=60)
        band = bootstrap_roc_band(labels, scores, patients, num_resamples=30, generator=np.random.default_rng(1))
        generator, names, curves = np.random.default_rng(1), sorted(set(patients)), []
        for _ in range(30):
            drawn = generator.integers(len(names), size=len(names))
            rows = [row for i in drawn for row in range(len(labels)) if patients[row] == names[i]]
            rate, sensitivity, _ = reference.roc_curve(labels[rows], scores[rows], drop_intermediate=False)
            curves.append(np.interp(np.linspace(0, 1, BAND_POINTS), rate, sensitivity))
        # Where the curve is vertical, rounding of the rate decides which end is read: compare outside of such points.
        low, high = np.percentile(curves, [2.5, 97.5], axis=0)
        assert np.mean(np.isclose(band.low, low, atol=TOLERANCE)) > 0.95
        assert np.mean(np.isclose(band.high, high, atol=TOLERANCE)) > 0.95

    def test_holds_the_curve_and_ends_at_one(self, cohort):
        labels, scores, patients = cohort(7)
        band = bootstrap_roc_band(labels, scores, patients, num_resamples=200, generator=np.random.default_rng(1))
        curve = roc_curve(ClassCounts.from_scores(labels, scores))
        middle = np.interp(band.false_positive_rate, curve.false_positive_rate, curve.sensitivity)
        assert np.all(band.low <= band.high)
        assert np.mean((band.low <= middle) & (middle <= band.high)) > 0.95
        assert (band.low[-1], band.high[-1]) == (1, 1)
