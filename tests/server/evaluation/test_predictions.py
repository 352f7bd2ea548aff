"""The server's test lesions: what describes them is read strictly and written without loss."""

import csv
import io

import numpy as np
import pytest

from server.evaluation.predictions import UNKNOWN, Predictions, counts_from_csv, counts_to_csv, read_attributes
from shared_model.errors import DataError
from shared_model.metrics.roc import auroc_from_counts
from shared_model.metrics.score_histogram import ScoreHistogram
from tests.scripted_federation import make_lesions

PREDICTIONS = Predictions(
    labels=np.array([1, 0, 0, 1]),
    scores=np.array([0.9, 0.1 + 0.2, 0.25, 0.5]),
    patients=np.array([0, 0, 0, 7]),
    attributes={"laterality": ("LEFT", "RIGHT", "LEFT", "LEFT"), "view": ("CC", "CC", "MLO", UNKNOWN)},
)


def test_breasts_are_sides_of_patients():
    breasts = PREDICTIONS.breasts
    assert breasts[0] == breasts[2]
    assert len(set(breasts)) == 3


@pytest.mark.parametrize("attributes", [{}, {"laterality": ("LEFT", UNKNOWN, "LEFT", "LEFT")}])
def test_without_every_side_there_are_no_breasts(attributes):
    made = Predictions(**{**vars(PREDICTIONS), "attributes": attributes})
    assert made.breasts is None


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"scores": np.zeros(4)}, True),
        ({"labels": np.array([1, 0, 1, 1])}, False),
        ({"patients": np.array([0, 0, 1, 7])}, False),
    ],
)
def test_lesions_are_the_same_whatever_their_scores(change, is_same):
    assert Predictions(**{**vars(PREDICTIONS), **change}).has_same_lesions(PREDICTIONS) == is_same


def test_the_worst_errors_come_first():
    missed, alarms = PREDICTIONS.misclassified(0.6)
    assert (missed, alarms) == ([3], [])
    missed, alarms = PREDICTIONS.misclassified(0.28)
    assert (missed, alarms) == ([], [1])
    several = Predictions(
        labels=np.array([1, 1, 0, 0]), scores=np.array([0.3, 0.1, 0.7, 0.9]), patients=np.arange(4), attributes={}
    )
    assert several.misclassified(0.5) == ([1, 0], [3, 2])


def test_a_score_at_the_threshold_is_called_malignant():
    at_threshold = Predictions(
        labels=np.array([1, 0]), scores=np.array([0.5, 0.5]), patients=np.arange(2), attributes={}
    )
    assert at_threshold.misclassified(0.5) == ([], [1])


def test_lesions_scores_and_attributes_are_joined(federation):
    lesions = make_lesions(seed=0, num_lesions=6, width=2)
    scores = np.linspace(0, 1, 6)
    found = Predictions.from_lesions(lesions, scores, {"view": ("CC",) * 6})
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == lesions.labels.tolist()
    assert found.patients.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.scores is scores


def test_selection_keeps_rows_together():
    chosen = PREDICTIONS.select(np.array([False, True, False, True]))
    assert chosen.patients.tolist() == [0, 7]
    assert chosen.attributes == {"laterality": ("RIGHT", "LEFT"), "view": ("CC", UNKNOWN)}
    assert chosen.counts is not None
    assert PREDICTIONS.select(np.array([True, False, False, True])).counts is None


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_bytes(PREDICTIONS.to_csv())
    found = Predictions.from_csv(path)
    assert found.scores.tolist() == PREDICTIONS.scores.tolist()
    assert (found.labels.tolist(), found.patients.tolist()) == ([1, 0, 0, 1], [0, 0, 0, 7])
    assert found.attributes == PREDICTIONS.attributes
    counts = ScoreHistogram.from_scores(PREDICTIONS.labels, PREDICTIONS.scores, 20).class_counts
    path.write_bytes(counts_to_csv(counts))
    again = counts_from_csv(path)
    assert auroc_from_counts(again) == auroc_from_counts(counts)
    assert set(again.scores) <= set(counts.scores)


@pytest.mark.parametrize("read", [Predictions.from_csv, counts_from_csv])
@pytest.mark.parametrize("text", [None, "", "score\n0.5\n", "patient,label,score,benign,malignant\n1,x,0.5,1,x\n"])
def test_refuses_what_is_no_such_file(tmp_path, read, text):
    path = tmp_path / "found.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"found\.csv"):
        read(path)


def test_the_file_holds_every_score_exactly():
    rows = list(csv.DictReader(io.StringIO(PREDICTIONS.to_csv().decode())))
    assert [float(row["score"]) for row in rows] == PREDICTIONS.scores.tolist()
    assert [row["patient"] for row in rows] == ["0", "0", "0", "7"]
    assert rows[1]["laterality"] == "RIGHT"


def test_attributes_stand_beside_the_lesions(tmp_path):
    holdout = tmp_path / "holdout.safetensors"
    assert read_attributes(holdout, 2) == {}
    (tmp_path / "holdout.csv").write_text("view,subtlety\nCC,\nMLO,5\n")
    assert read_attributes(holdout, 2) == {"view": ("CC", "MLO"), "subtlety": (UNKNOWN, "5")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("view\nCC\n", "Expected 2 rows in .*, got 1"),
        ("view,view\nCC,CC\nCC,CC\n", "twice"),
        ("name\nA\nB\n", "each column must be one of"),
        ("view,subtlety\nCC\nMLO,5\n", "Expected a CSV table"),
        ("", "Expected a CSV table"),
    ],
)
def test_refuses_attributes_that_do_not_fit(tmp_path, text, message):
    (tmp_path / "holdout.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_attributes(tmp_path / "holdout.safetensors", 2)
