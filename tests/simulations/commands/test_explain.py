"""Explaining a finished run: pictures, checks, the report, and what cannot be explained."""

import shutil

import pytest
from matplotlib.image import imread

from server.evaluation.predictions import Predictions
from server.report.explanations import EXPLANATIONS_FOLDER, INDEX_FILE, read_explanations
from server.report.html_report import REPORT_FILE
from server.results.document import read_results
from simulations.commands.app import main
from simulations.explanations import faithfulness
from simulations.explanations.finished_run import FinishedRun

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("decoders_stay")]


@pytest.fixture(scope="module")
def explained(smoke, tmp_path_factory):
    folder = shutil.copytree(smoke.first, tmp_path_factory.mktemp("explained") / "run")
    assert main(["explain", str(folder), "--count", "4"]) == 0
    return folder


def test_every_lesion_has_its_picture_and_its_own_score(explained):
    index = read_explanations(explained / EXPLANATIONS_FOLDER)
    predictions = Predictions.from_csv(explained / "predictions.csv")
    assert len(index.lesions) == 4
    for lesion in index.lesions:
        assert imread(explained / EXPLANATIONS_FOLDER / lesion.file).shape[0] > 300
        # The maps explain the score that the report gives: pixels, encoder and head are the run's.
        assert lesion.score == pytest.approx(predictions.scores[lesion.row], abs=1e-4)
        assert 0 <= lesion.image_share <= 1
        assert lesion.columns


@pytest.fixture
def in_few_steps(monkeypatch, blank_pictures):
    """Blur and sharpen in two steps and draw nothing, for tests that look at other things."""
    monkeypatch.setattr(faithfulness, "NUM_STEPS", 2)


@pytest.mark.usefixtures("in_few_steps")
def test_another_backbone_and_both_views_together_explain_their_own_score(run_smoke):
    folder = run_smoke("model.backbone=efficientnet_lite1", "data.views=all", "training.num_rounds=1")
    assert main(["explain", str(folder), "--count", "4"]) == 0
    scores = Predictions.from_csv(folder / "predictions.csv").scores
    for lesion in read_explanations(folder / EXPLANATIONS_FOLDER).lesions:
        assert lesion.score == pytest.approx(scores[lesion.row], abs=1e-4)


def test_the_report_shows_them(explained):
    html = (explained / REPORT_FILE).read_text()
    assert html.count("data:image/png;base64,") == 4
    assert "Can the maps be trusted?" in html


def test_checks_are_of_all_lesions_and_both_methods(explained):
    index = read_explanations(explained / EXPLANATIONS_FOLDER)
    assert [check.method for check in index.checks] == ["Grad-CAM", "Grad-CAM++"]
    for check in index.checks:
        # Crops do not say where on the film they lie.
        assert (check.num_lesions, check.num_marked, check.energy, check.pointing) == (4, 0, None, None)


def test_errors_come_first(explained):
    run = FinishedRun.open(explained)
    kinds = [run.outcome(row) for row in run.select_rows(8)]
    results = read_results(explained / "results.json").evidence.levels[0]
    assert kinds.count("missed cancer") >= min(2, results.fn)
    assert kinds.count("false alarm") >= min(2, results.fp)
    assert len(set(run.select_rows(8))) == 8


@pytest.mark.usefixtures("in_few_steps")
def test_cut_regions_know_where_the_lesion_lies(run_smoke):
    folder = run_smoke("data.image.mode=roi", "training.num_rounds=1")
    assert main(["explain", str(folder), "--count", "4"]) == 0
    for check in read_explanations(folder / EXPLANATIONS_FOLDER).checks:
        assert check.num_marked == 4
        # A context of 1.5 leaves the box at most 1 / 2.25 of the square.
        assert 0.1 < check.area <= 0.47


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("overrides", [["model.modality=clinical"]])
def test_a_run_without_images_is_refused(run_smoke, overrides, capsys):
    folder = run_smoke(*overrides)
    assert main(["explain", str(folder)]) == 1
    assert "Expected a run with images" in capsys.readouterr().err
    assert not (folder / EXPLANATIONS_FOLDER).exists()


def test_no_run_is_an_error_in_one_line(tmp_path, capsys):
    assert main(["explain", str(tmp_path)]) == 1
    assert "Expected a finished run" in capsys.readouterr().err


def test_a_damaged_index_is_named(explained, tmp_path, capsys):
    folder = shutil.copytree(explained, tmp_path / "run")
    (folder / EXPLANATIONS_FOLDER / INDEX_FILE).write_text("{}")
    assert main(["server", "report", str(folder)]) == 1
    assert "index.json" in capsys.readouterr().err
