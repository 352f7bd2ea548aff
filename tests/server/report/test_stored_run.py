"""A run folder is read back as it was written, and a folder that is not whole is refused in one line."""

import csv
import json
import shutil

import pytest
import yaml
from matplotlib.figure import Figure

from server.evaluation.predictions import HISTOGRAM_FILE, PREDICTIONS_FILE, counts_to_csv
from server.report.epsilon_study import EPSILON_STUDY_FILE, EpsilonPoint, EpsilonStudy, write_epsilon_study
from server.report.explanations import EXPLANATIONS_FOLDER, Explanations, LesionExplanation, write_explanations
from server.report.plot_style import save_png
from server.report.run_folder import CONFIG_FILE
from server.report.stored_run import PATIENTS_FILE, REJECTS_FILE, StoredRun
from server.results.document import RESULTS_FILE, read_results
from shared_model.errors import ConfigError
from shared_model.metrics.score_histogram import ScoreHistogram


@pytest.fixture
def folder(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.fixture(scope="module")
def run(finished_run):
    return StoredRun.load(finished_run)


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def explain(folder, names=("0.png",)):
    lesions = tuple(
        LesionExplanation(file=name, row=0, kind="false alarm", score=0.8, image_share=0.5, columns=())
        for name in names
    )
    (folder / EXPLANATIONS_FOLDER).mkdir()
    write_explanations(Explanations(lesions=lesions, checks=()), folder / EXPLANATIONS_FOLDER)
    figure = Figure(figsize=(1, 1))
    figure.add_subplot()
    for name in names:
        save_png(figure, folder / EXPLANATIONS_FOLDER / name)


def test_results_and_configuration_are_those_of_the_folder(run, finished_run):
    assert run.results == read_results(finished_run / RESULTS_FILE)
    assert run.configuration == yaml.safe_load((finished_run / CONFIG_FILE).read_text())


def test_predictions_have_counts_and_a_band(run):
    assert run.score_counts.positives.sum() == run.predictions.labels.sum()
    assert run.score_counts.negatives.sum() == (run.predictions.labels == 0).sum()
    assert (run.roc_band.low <= run.roc_band.high + 1e-12).all()


def test_the_band_is_the_same_every_time(run, finished_run):
    again = StoredRun.load(finished_run)
    assert again.roc_band.low.tolist() == run.roc_band.low.tolist()


def test_a_plain_run_has_neither_explanations_nor_a_study_nor_tables_of_sites(run):
    assert (run.explanations, run.epsilon_study) == (None, None)
    assert (run.pictures, run.rejects, run.patients) == ({}, {}, {})


def test_a_histogram_stands_for_predictions(folder, run):
    histogram = ScoreHistogram.from_scores(run.predictions.labels, run.predictions.scores, 50)
    (folder / PREDICTIONS_FILE).unlink()
    (folder / HISTOGRAM_FILE).write_bytes(counts_to_csv(histogram.class_counts))
    found = StoredRun.load(folder)
    assert (found.predictions, found.roc_band) == (None, None)
    assert found.score_counts.positives.sum() == histogram.positives.sum()


def test_without_any_scores_there_are_no_counts(folder):
    (folder / PREDICTIONS_FILE).unlink()
    found = StoredRun.load(folder)
    assert (found.predictions, found.score_counts, found.roc_band) == (None, None, None)


def test_predictions_of_one_class_have_no_counts(folder, run):
    malignant = run.predictions.select(run.predictions.labels == 1)
    (folder / PREDICTIONS_FILE).write_bytes(malignant.to_csv())
    found = StoredRun.load(folder)
    assert (found.score_counts, found.roc_band) == (None, None)
    assert len(found.predictions.labels) == run.predictions.labels.sum()


def test_tables_of_simulated_sites_are_counted(folder):
    reasons = ["no image", "no image", "unknown pathology"]
    write_table(folder / "sites" / "MGH" / REJECTS_FILE, [{"row": i, "reason": each} for i, each in enumerate(reasons)])
    roles = [{"role": "train", "patients": 7, "lesions": 9}, {"role": "test", "patients": 2, "lesions": 3}]
    write_table(folder / "sites" / "WFU" / PATIENTS_FILE, roles)
    found = StoredRun.load(folder)
    assert found.rejects == {"MGH": {"no image": 2, "unknown pathology": 1}}
    assert found.patients == {"WFU": {"train": (7, 9), "test": (2, 3)}}


def test_a_table_with_other_columns_is_named(folder):
    write_table(folder / "sites" / "MGH" / REJECTS_FILE, [{"row": 1, "why": "no image"}])
    with pytest.raises(ConfigError, match=r"Expected a finished run in .*reason"):
        StoredRun.load(folder)


def test_explanations_come_with_their_pictures(folder):
    explain(folder, names=("0.png", "1.png"))
    found = StoredRun.load(folder)
    assert [lesion.file for lesion in found.explanations.lesions] == ["0.png", "1.png"]
    assert all(address.startswith("data:image/png;base64,iVBORw0KGgo") for address in found.pictures.values())


def test_a_missing_picture_is_an_error(folder):
    explain(folder)
    (folder / EXPLANATIONS_FOLDER / "0.png").unlink()
    with pytest.raises(ConfigError, match=r"Expected a finished run in .*0\.png"):
        StoredRun.load(folder)


def test_a_run_of_a_study_knows_the_others(folder, run):
    auroc = run.results.evidence.levels[0].estimate("auroc")
    study = EpsilonStudy(points=(EpsilonPoint(seed=0, epsilon=8.0, auroc=auroc),))
    write_epsilon_study(study, folder)
    assert StoredRun.load(folder).epsilon_study == study


@pytest.mark.parametrize("name", [RESULTS_FILE, CONFIG_FILE])
def test_without_this_file_it_is_no_finished_run(folder, name):
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=rf"Expected a finished run in .*{name}"):
        StoredRun.load(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (RESULTS_FILE, "{}"),
        (RESULTS_FILE, '{"schema_version": 2}'),
        (CONFIG_FILE, "seed: ["),
        (CONFIG_FILE, "seed: 0\n"),
        (CONFIG_FILE, ""),
        (PREDICTIONS_FILE, "patient,label\n1,1\n"),
        (EPSILON_STUDY_FILE, "[]"),
        (EPSILON_STUDY_FILE, '{"points": [{"seed": 0}]}'),
    ],
)
def test_other_content_is_refused_in_one_line(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(ConfigError, match="Expected a finished run in") as caught:
        StoredRun.load(folder)
    assert name in str(caught.value) or name == CONFIG_FILE


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"seed": None},
        {"seed": "0"},
        {"seed": True},
        {"seed": 1.5},
        {"preset": 3},
        {"rounds": {}},
        {"final": []},
        {"evidence": {}},
    ],
)
def test_results_are_read_strictly(folder, change):
    values = json.loads((folder / RESULTS_FILE).read_text()) | change
    (folder / RESULTS_FILE).write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"Expected a finished run in .*results of schema version"):
        StoredRun.load(folder)


def test_a_results_file_that_lacks_a_key_is_refused(folder):
    values = json.loads((folder / RESULTS_FILE).read_text())
    for key in list(values):
        (folder / RESULTS_FILE).write_text(json.dumps({name: values[name] for name in values if name != key}))
        with pytest.raises(ConfigError, match="Expected a finished run in"):
            StoredRun.load(folder)


def test_nan_is_no_result(folder):
    text = (folder / RESULTS_FILE).read_text()
    auroc = json.loads(text)["final"]["auroc"]
    (folder / RESULTS_FILE).write_text(text.replace(str(auroc), "NaN", 1))
    with pytest.raises(ConfigError, match="Expected a finished run in"):
        StoredRun.load(folder)
