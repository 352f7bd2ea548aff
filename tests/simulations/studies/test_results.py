"""Rows of finished runs, and their means over seeds."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.evaluation.predictions import PREDICTIONS_FILE, Predictions
from server.results.document import RESULTS_FILE
from shared_model.config.composition import compose
from shared_model.metrics import delong
from simulations.studies.jobs import Job
from simulations.studies.results import mean_of, read_row, read_rows, summarise, value_of

RESULTS = Path(__file__).parents[2] / "server" / "results" / "schema_7_private.json"
"""Results of a private run with an AUC of 0.77."""


class TestSummaries:
    def test_mean_and_deviation_over_seeds_by_hand(self, make_row):
        rows = [make_row("a", seed=seed, auroc=value, brier=0.25) for seed, value in enumerate((0.7, 0.8, 0.9))]
        (summary,) = summarise([*rows])
        assert (summary.run, summary.num_seeds) == ("a", 3)
        assert summary.mean["auroc"] == pytest.approx(0.8)
        assert summary.deviation["auroc"] == pytest.approx(0.1)
        assert (summary.mean["brier"], summary.deviation["brier"]) == (pytest.approx(0.25), pytest.approx(0, abs=1e-12))

    def test_one_for_every_run_in_their_order(self, make_row):
        rows = [make_row(name, seed=seed, auroc=0.5) for seed in (0, 1) for name in ("b", "a")]
        assert [(summary.run, summary.num_seeds) for summary in summarise(rows)] == [("b", 2), ("a", 2)]

    def test_all_rows_together_are_one(self, make_row):
        rows = [make_row(f"fold {n}", auroc=0.6 + 0.1 * n) for n in (1, 2)]
        (summary,) = summarise(rows, together="all 2 folds")
        assert (summary.run, summary.num_seeds) == ("all 2 folds", 2)
        assert summary.mean["auroc"] == pytest.approx(0.75)

    def test_a_seed_without_a_figure_leaves_none(self, make_row):
        rows = [make_row("a", seed=0, auroc=0.7), make_row("a", seed=1)]
        (summary,) = summarise(rows)
        assert summary.mean["auroc"] is None
        assert summary.deviation["auroc"] is None

    def test_one_seed_has_no_deviation(self, make_row):
        (summary,) = summarise([make_row("a", auroc=0.7)])
        assert (summary.mean["auroc"], summary.deviation["auroc"]) == (0.7, None)

    @given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
    def test_are_those_of_numpy(self, make_row, values):
        (summary,) = summarise([make_row("a", seed=seed, auroc=value) for seed, value in enumerate(values)])
        assert summary.mean["auroc"] == pytest.approx(np.mean(values))
        assert summary.deviation["auroc"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)


@pytest.mark.parametrize(
    ("values", "expected"), [([], None), ([None], None), ([0.5, None], None), ([0.0], 0.0), ([0.25, 0.75], 0.5)]
)
def test_a_mean_needs_every_value(values, expected):
    assert mean_of(values) == expected


def test_values_of_rows(make_row):
    row = make_row("a", auroc=0.8, by_site=(("MGH", 0.7), ("WFU", None)))
    assert value_of(row.estimate("auroc")) == 0.8
    assert row.estimate("brier") is None
    assert value_of(row.auroc_at("MGH")) == 0.7
    assert value_of(row.auroc_at("WFU")) is None
    assert row.auroc_at("ISMD") is None
    without = make_row("a")
    assert (without.estimate("auroc"), without.auroc_at("MGH")) == (None, None)


LABELS = np.tile([0, 1], 20)
PATIENTS = np.repeat(np.arange(20), 2)


def predictions(seed, labels=LABELS):
    scores = np.random.default_rng(seed).random(len(labels)) * 0.6 + 0.4 * labels
    return Predictions(labels=labels, scores=scores, patients=PATIENTS, attributes={})


@pytest.fixture
def finished(tmp_path):
    """Make a job whose folder holds results and these predictions."""
    config = compose(["preset=smoke", "data.root=unused", "run.dir=unused"])

    def make(name, predicted, *, seed=0, **privacy):
        folder = tmp_path / f"{name}-{seed}"
        folder.mkdir()
        shutil.copy(RESULTS, folder / RESULTS_FILE)
        (folder / PREDICTIONS_FILE).write_bytes(predicted.to_csv())
        changed = dataclasses.replace(
            config,
            seed=seed,
            run=dataclasses.replace(config.run, dir=str(folder)),
            privacy=dataclasses.replace(config.privacy, **privacy),
        )
        return Job(name=name, config=changed)

    return make


class TestRows:
    def test_hold_what_the_run_found_and_promised(self, finished):
        row = read_row(finished("a", predictions(0), target_epsilon=2.0), first=None)
        assert (row.run, row.seed, row.epsilon, row.against_first) == ("a", 0, 2.0, None)
        assert value_of(row.estimate("auroc")) == 0.77

    def test_promise_nothing_without_privacy(self, finished):
        config = compose(["preset=smoke", "data.root=unused", "run.dir=unused", "privacy=off"])
        job = finished("a", predictions(0))
        off = dataclasses.replace(config, run=job.config.run)
        assert read_row(Job(name="a", config=off), first=None).epsilon is None

    def test_are_compared_with_the_first_of_their_seed(self, finished):
        jobs = [
            finished("a", predictions(0), seed=0),
            finished("b", predictions(1), seed=0),
            finished("a", predictions(2), seed=1),
            finished("b", predictions(3), seed=1),
        ]
        rows = read_rows(jobs)
        assert [row.against_first is None for row in rows] == [True, False, True, False]
        expected = delong.compare(LABELS, predictions(3).scores, predictions(2).scores, PATIENTS)
        assert rows[3].against_first.difference == pytest.approx(expected.difference, abs=1e-6)

    def test_of_other_lesions_are_not_compared(self, finished):
        jobs = [finished("a", predictions(0)), finished("b", predictions(1, labels=LABELS[::-1].copy()))]
        assert [row.against_first for row in read_rows(jobs)] == [None, None]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_job_is_finished_when_there_are_results(finished, is_there):
    job = finished("a", predictions(0))
    if not is_there:
        (job.folder / RESULTS_FILE).unlink()
    assert job.is_finished is is_there
