"""Which plots the report shows, and what a reader who cannot see them is told."""

import base64
import dataclasses

import pytest

from server.report import report_plots as report_plots_module
from server.report.epsilon_study import EpsilonPoint, EpsilonStudy
from server.report.report_plots import GROUPS_TITLE, report_plots
from server.report.stored_run import StoredRun

BY_SCORES = ["ROC curve", "Precision and recall", "Calibration", "Decision curve"]


@pytest.fixture(scope="module")
def run(finished_run):
    return StoredRun.load(finished_run)


@pytest.fixture(scope="module")
def plots(run):
    return report_plots(run)


def test_a_run_with_test_lesions_shows_all_in_the_order_of_the_page(plots):
    assert [plot.title for plot in plots] == [*BY_SCORES, "Rounds", GROUPS_TITLE]
    assert [plot.is_wide for plot in plots] == [False] * 4 + [True] * 2
    for plot in plots:
        kind, content = plot.source.split(",")
        assert kind == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(content)


def test_the_words_say_the_numbers(run, plots):
    words = {plot.title: plot.alternative for plot in plots}
    by_lesion = run.results.evidence.levels[0]
    assert f"area of {run.results.final.auroc:.3f}." in words["ROC curve"]
    assert f"average precision {by_lesion.estimate('average_precision').value:.3f}." in words["Precision and recall"]
    assert f"calibration error {by_lesion.estimate('calibration_error').value:.3f}." in words["Calibration"]
    assert "over 4 rounds" in words["Rounds"]


def test_without_scores_there_are_rounds_alone(run):
    results = dataclasses.replace(run.results, evidence=None)
    for counts in (run.score_counts, None):
        bare = dataclasses.replace(run, results=results, score_counts=counts, roc_band=None, predictions=None)
        assert [plot.title for plot in report_plots(bare)] == ["Rounds"]


def test_a_histogram_of_a_study_has_no_calibration_and_no_groups(run):
    by_lesion = run.results.evidence.levels[0]
    figures = tuple(each for each in by_lesion.figures if each.name not in {"brier", "calibration_error"})
    evidence = dataclasses.replace(
        run.results.evidence, levels=(dataclasses.replace(by_lesion, figures=figures),), groups=()
    )
    study = EpsilonStudy(points=(EpsilonPoint(seed=0, epsilon=8.0, auroc=by_lesion.estimate("auroc")),))
    results = dataclasses.replace(run.results, evidence=evidence)
    plots = report_plots(dataclasses.replace(run, results=results, roc_band=None, epsilon_study=study))
    assert [plot.title for plot in plots] == [
        "ROC curve",
        "Precision and recall",
        "Decision curve",
        "Rounds",
        "AUC over epsilon",
    ]
    assert plots[-1].alternative.startswith("AUC over epsilon, means over seeds: ")


def test_a_plot_that_cannot_be_drawn_is_left_out_with_one_line(run, monkeypatch, caplog):
    def fail(*arguments, **named):
        raise OverflowError("cannot convert float infinity to integer")

    monkeypatch.setattr(report_plots_module, "draw_rounds", fail)
    assert [plot.title for plot in report_plots(run)] == [*BY_SCORES, GROUPS_TITLE]
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("Left out the plot Rounds, which could not be drawn: cannot convert float infinity")
