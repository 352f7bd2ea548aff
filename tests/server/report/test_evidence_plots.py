"""Plots of the final network show the numbers that a second way gives: scikit-learn, SciPy, or by hand."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, precision_recall_curve

from server.report.evidence_plots import draw_decision, draw_forest, draw_precision_recall, draw_reliability
from server.results.estimate import Estimate
from server.results.evidence import Evidence, GroupResult, Level, LevelResult
from shared_model.metrics.counts import ClassCounts
from shared_model.metrics.intervals import ConfidenceInterval

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 2, 200)
SCORES = np.round(1 / (1 + np.exp(-GENERATOR.normal(size=200) - LABELS)), 2)
COUNTS = ClassCounts.from_scores(LABELS, SCORES)


def estimate(name, value, half_width=0.05):
    interval = None if half_width is None else ConfidenceInterval(low=value - half_width, high=value + half_width)
    return Estimate(name=name, value=value, interval=interval)


def line(axes, label):
    (found,) = (line for line in axes.lines if str(line.get_label()).startswith(label))
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


class TestPrecisionRecall:
    def test_the_steps_pass_through_every_point_of_scikit_learn(self):
        (axes,) = draw_precision_recall(COUNTS, None).axes
        recall, precision = line(axes, "average precision")
        expected = precision_recall_curve(LABELS, SCORES)
        points = set(zip(expected[1].round(9), expected[0].round(9), strict=True)) - {(0.0, 1.0)}
        assert points <= set(zip(recall.round(9), precision.round(9), strict=True))

    def test_the_area_under_the_steps_is_the_average_precision(self):
        (axes,) = draw_precision_recall(COUNTS, None).axes
        recall, precision = line(axes, "average precision")
        (steps,) = (each for each in axes.lines if str(each.get_label()).startswith("average precision"))
        # Each step is as high as the point at its right end.
        assert steps.get_drawstyle() == "steps-pre"
        area = np.sum(np.diff(recall) * precision[1:])
        assert area == pytest.approx(average_precision_score(LABELS, SCORES))

    def test_chance_is_the_share_of_malignant_lesions(self):
        (axes,) = draw_precision_recall(COUNTS, estimate("average_precision", 0.7)).axes
        assert set(line(axes, "chance")[1]) == {LABELS.mean()}
        assert line(axes, f"chance: {LABELS.mean():.3f}")
        assert line(axes, "average precision 0.700 [0.650, 0.750]")

    def test_an_estimate_without_a_value_has_no_number(self):
        nothing = Estimate(name="average_precision", value=None, interval=None)
        labels = [text.get_text() for text in draw_precision_recall(COUNTS, nothing).axes[0].get_legend().get_texts()]
        assert "average precision" in labels


class TestReliability:
    def test_observed_shares_have_wilson_intervals(self):
        axes, _ = draw_reliability(COUNTS, estimate("calibration_error", 0.05)).axes
        predicted, observed = line(axes, "calibration error 0.050")
        (bars,) = axes.collections
        for (low, high), x, share in zip(bars.get_segments(), predicted, observed, strict=True):
            in_bin = [
                (s, label) for s, label in zip(SCORES, LABELS, strict=True) if int(min(s, 0.999) * 10) == int(x * 10)
            ]
            num_malignant = sum(label for _, label in in_bin)
            assert x == pytest.approx(np.mean([score for score, _ in in_bin]))
            assert share == pytest.approx(num_malignant / len(in_bin))
            expected = binomtest(int(num_malignant), len(in_bin)).proportion_ci(0.95, method="wilson")
            assert (low[1], high[1]) == pytest.approx((expected.low, expected.high))

    def test_below_stand_the_lesions_of_every_bin(self):
        _, bars = draw_reliability(COUNTS, None).axes
        assert sum(bar.get_height() for bar in bars.patches) == len(LABELS)


class TestDecision:
    def test_net_benefit_by_hand(self):
        (axes,) = draw_decision(COUNTS).axes
        thresholds, benefit = line(axes, "act on the network")
        for threshold in (0.25, 0.5, 0.75):
            calls = threshold <= SCORES
            odds = threshold / (1 - threshold)
            expected = (calls & (LABELS == 1)).mean() - odds * (calls & (LABELS == 0)).mean()
            (found,) = benefit[np.isclose(thresholds, threshold)]
            assert found == pytest.approx(expected)

    def test_acting_on_all_crosses_nothing_at_the_prevalence(self):
        (axes,) = draw_decision(COUNTS).axes
        thresholds, benefit = line(axes, "act on all")
        assert benefit[0] == pytest.approx(LABELS.mean() - 0.01 / 0.99 * (1 - LABELS.mean()))
        crossing = thresholds[np.flatnonzero(benefit < 0)[0]]
        assert crossing == pytest.approx(LABELS.mean(), abs=0.011)
        assert set(line(axes, "act on none")[1]) == {0}


class TestForest:
    @staticmethod
    def group(attribute, value, *, is_small=False, figures=()):
        return GroupResult(
            attribute=attribute,
            value=value,
            num_lesions=20,
            num_malignant=8,
            num_patients=15,
            is_small=is_small,
            figures=figures,
        )

    @staticmethod
    def evidence(*groups):
        level = LevelResult(
            level=Level.LESION,
            num_units=40,
            num_malignant=16,
            auroc_interval_delong=None,
            tp=None,
            fp=None,
            tn=None,
            fn=None,
            figures=(estimate("auroc", 0.8),),
        )
        return Evidence(prevalence=0.01, levels=(level,), groups=groups)

    def test_every_group_has_its_row_and_every_attribute_a_gap(self):
        figures = (estimate("auroc", 0.7), estimate("sensitivity", 0.9, None))
        groups = [self.group("breast_density", "1"), self.group("breast_density", "2"), self.group("view", "CC")]
        plot = draw_forest(self.evidence(*(dataclasses.replace(group, figures=figures) for group in groups)))
        names = [label.get_text() for label in plot.axes[0].get_yticklabels()]
        assert names == ["breast density 1  (8/20)", "breast density 2  (8/20)", "view CC  (8/20)"]
        assert plot.axes[0].get_yticks().tolist() == [0.0, 1.0, 2.6]
        auroc, sensitivity, specificity = plot.axes
        assert [line.get_xdata()[0] for line in auroc.lines] == [0.8, 0.7, 0.7, 0.7]
        assert len(auroc.collections) == 3
        # Without an interval there is a point alone; without a figure, nothing.
        assert (len(sensitivity.lines), len(sensitivity.collections)) == (3, 0)
        assert (len(specificity.lines), len(specificity.collections)) == (0, 0)

    def test_small_groups_are_hollow(self):
        figures = (estimate("auroc", 0.7),)
        groups = [self.group("view", "CC", figures=figures), self.group("view", "MLO", is_small=True, figures=figures)]
        _, large, small = draw_forest(self.evidence(*groups)).axes[0].lines
        assert small.get_markerfacecolor() == "white"
        assert large.get_markerfacecolor() == large.get_color()

    def test_pathologies_are_written_small(self):
        plot = draw_forest(self.evidence(self.group("pathology", "BENIGN"), self.group("pathology", "MALIGNANT")))
        names = [label.get_text() for label in plot.axes[0].get_yticklabels()]
        assert names == ["pathology benign  (8/20)", "pathology malignant  (8/20)"]

    def test_more_groups_make_a_higher_plot(self):
        heights = [
            draw_forest(self.evidence(*(self.group("site", str(number)) for number in range(count)))).get_size_inches()[
                1
            ]
            for count in (2, 8)
        ]
        assert heights[1] > heights[0]

    def test_without_groups_there_is_no_plot(self):
        assert draw_forest(self.evidence()) is None
