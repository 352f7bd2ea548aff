"""Evaluating finished runs: the run's own lesions come out as they did, and figures are what others compute."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from server.evaluation.predictions import PREDICTIONS_FILE, Predictions
from server.report.html_report import REPORT_FILE
from server.report.run_folder import CONFIG_FILE
from server.results.document import RESULTS_FILE, read_results
from simulations.commands.app import main
from simulations.evaluation.document import EVALUATION_FILE, read_evaluation

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_pictures", "decoders_stay")]


def read(folder):
    return read_evaluation(folder / EVALUATION_FILE)


def figure(evaluation, name, level=0):
    return evaluation.evidence.levels[level].estimate(name)


def without_delong(evidence):
    """Leave the closed form out: the order in which patients are numbered moves its last digit."""
    levels = tuple(dataclasses.replace(level, auroc_interval_delong=None) for level in evidence.levels)
    return dataclasses.replace(evidence, levels=levels)


def rows_of_test_patients(manifests):
    return [row for row in manifests.rows if row["split"] == "test"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work in an empty folder, where the cache lies that no flag names."""
    monkeypatch.chdir(tmp_path)


def refused(capsys, *arguments):
    """Return the line with which a command fails."""
    capsys.readouterr()
    assert main(["evaluate", *map(str, arguments)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


class TestTheRunsOwnLesions:
    @pytest.fixture
    def out(self, smoke, evaluate):
        return evaluate("--data-root", smoke.root)

    def test_scores_and_figures_are_those_of_the_run(self, smoke, out):
        own, found = (Predictions.from_csv(folder / PREDICTIONS_FILE) for folder in (smoke.first, out))
        assert np.array_equal(own.scores, found.scores)
        assert np.array_equal(own.labels, found.labels)
        # Patients are numbered anew, and are the same.
        assert len(set(zip(own.patients, found.patients, strict=True))) == len(set(own.patients))
        assert found.attributes == own.attributes
        evaluation, results = read(out), read_results(smoke.first / RESULTS_FILE)
        assert without_delong(evaluation.evidence) == without_delong(results.evidence)
        assert evaluation.run.threshold == results.final.threshold
        assert (evaluation.lesions.num_lesions, evaluation.lesions.num_patients) == (
            results.final.num_lesions,
            results.final.num_patients,
        )
        assert {difference.value for difference in evaluation.drift.differences} == {0.0}
        assert not evaluation.drift.features.is_cosine

    def test_figures_are_what_others_compute(self, out):
        with (out / PREDICTIONS_FILE).open() as stream:
            rows = list(csv.DictReader(stream))
        labels = np.array([int(row["label"]) for row in rows])
        scores = np.array([float(row["score"]) for row in rows])
        evaluation = read(out)
        threshold = evaluation.run.threshold
        assert figure(evaluation, "auroc").value == pytest.approx(roc_auc_score(labels, scores))
        assert figure(evaluation, "brier").value == pytest.approx(brier_score_loss(labels, scores))
        assert figure(evaluation, "sensitivity").value == pytest.approx((scores >= threshold)[labels == 1].mean())
        assert figure(evaluation, "specificity").value == pytest.approx((scores < threshold)[labels == 0].mean())
        assert evaluation.scores.num_called == (scores >= threshold).sum()
        assert evaluation.scores.mean == pytest.approx(scores.mean())
        assert evaluation.scores.bins == tuple(np.histogram(scores, np.linspace(0, 1, 21))[0])
        for level in evaluation.evidence.levels:
            interval = level.estimate("auroc").interval
            assert interval.low <= level.estimate("auroc").value <= interval.high
        bins = {}
        for label, score in zip(labels, scores, strict=True):
            bins.setdefault(min(9, int(score * 10)), []).append((label, score))
        assert len(bins) == len(evaluation.reliability)
        for found, (_, members) in zip(evaluation.reliability, sorted(bins.items()), strict=True):
            assert found.num_lesions == len(members)
            assert found.observed == pytest.approx(np.mean([label for label, _ in members]))
            assert found.predicted == pytest.approx(np.mean([score for _, score in members]))

    def test_it_writes_a_page_and_whose_score_is_whose(self, smoke, out):
        page = (out / REPORT_FILE).read_text()
        evaluation = read(out)
        assert f"AUC {figure(evaluation, 'auroc').value:.3f}" in page
        assert "<h2>Drift</h2>" in page
        assert "http" not in page.replace("http-equiv", "")
        with (out / "lesions.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        scores = Predictions.from_csv(out / PREDICTIONS_FILE).scores
        assert [float(row["score"]) for row in rows] == scores.tolist()
        assert all(row["lesion_id"].split("_")[1:3] == row["patient_id"].split("_") for row in rows)
        # Neither page nor figures name a patient.
        names = {row["patient_id"] for row in rows}
        assert not any(name in text for name in names for text in (page, (out / EVALUATION_FILE).read_text()))
        assert {path.stat().st_mode & 0o077 for path in out.iterdir()} == {0}


class TestAManifest:
    def test_it_gives_the_scores_of_the_folder(self, smoke, manifests, evaluate):
        table = manifests.write("test.csv", rows_of_test_patients(manifests))
        found = Predictions.from_csv(evaluate("--manifest", table) / PREDICTIONS_FILE)
        own = Predictions.from_csv(smoke.first / PREDICTIONS_FILE)
        assert np.array_equal(found.scores, own.scores)
        assert np.array_equal(found.labels, own.labels)

    def test_split_selects_rows_and_is_not_needed(self, manifests, evaluate):
        table = manifests.write("all.csv", manifests.rows)
        numbers = {split: read(evaluate("--manifest", table, "--split", split)).lesions for split in ("train", "test")}
        everything = read(evaluate("--manifest", table)).lesions
        without = manifests.write("no-split.csv", manifests.rows, [c for c in manifests.rows[0] if c != "split"])
        assert everything.num_lesions == len(manifests.rows)
        assert dataclasses.replace(read(evaluate("--manifest", without)).lesions, name="all") == everything
        assert numbers["test"].num_lesions == len(rows_of_test_patients(manifests))
        # Patients of the test split have no rows on the training side.
        assert numbers["train"].num_lesions <= len(manifests.rows) - len(rows_of_test_patients(manifests))

    def test_without_outcomes_there_are_scores_only(self, smoke, manifests, evaluate, capsys):
        unlabelled = [{**row, "label": ""} for row in rows_of_test_patients(manifests)]
        table = manifests.write("unlabelled.csv", unlabelled)
        out = evaluate("--manifest", table)
        evaluation = read(out)
        assert (evaluation.evidence, evaluation.one_class, evaluation.reliability) == (None, None, ())
        assert evaluation.lesions.num_malignant is None
        assert sum(evaluation.scores.bins) == len(unlabelled)
        assert "The table has no outcomes" in capsys.readouterr().out
        assert "The table has no outcomes" in (out / REPORT_FILE).read_text()
        with (out / PREDICTIONS_FILE).open() as stream:
            rows = list(csv.DictReader(stream))
        assert not {"label", "pathology"} & set(rows[0])
        own = Predictions.from_csv(smoke.first / PREDICTIONS_FILE)
        assert [float(row["score"]) for row in rows] == own.scores.tolist()
        assert {d.name for d in evaluation.drift.differences} >= {"score", "breast_density"}
        assert "outcome" not in {d.name for d in evaluation.drift.differences}
        no_column = manifests.write("no-label.csv", unlabelled, [c for c in unlabelled[0] if c != "label"])
        assert read(evaluate("--manifest", no_column)).scores == evaluation.scores
        line = refused(capsys, smoke.first, "--manifest", table, "--recalibrate", "outcomes:10", "--out", "unused")
        assert "Expected outcomes (label)" in line

    def test_one_class_has_no_auc(self, manifests, evaluate, capsys):
        malignant = [row for row in rows_of_test_patients(manifests) if row["label"] == "MALIGNANT"]
        out = evaluate("--manifest", manifests.write("malignant.csv", malignant))
        evaluation = read(out)
        assert evaluation.evidence is None
        assert [estimate.name for estimate in evaluation.one_class.figures] == ["sensitivity"]
        scores = Predictions.from_csv(out / PREDICTIONS_FILE).scores
        assert evaluation.one_class.estimate("sensitivity").value == pytest.approx(
            (scores >= evaluation.run.threshold).mean()
        )
        assert f"All {len(malignant)} lesion views are malignant" in (out / REPORT_FILE).read_text()

    def test_rows_that_cannot_be_used_are_counted_with_their_reason(self, smoke, manifests, evaluate, capsys):
        rows = [dict(row) for row in rows_of_test_patients(manifests)]
        rows[0]["label"] = "perhaps"
        rows[1]["image_path"] = "crops/none.dcm"
        rows[2]["image_path"] = ""
        rows[3]["image_path"] = "broken.dcm"
        (manifests.folder / "broken.dcm").write_bytes(b"no image")
        out = evaluate("--manifest", manifests.write("damaged.csv", rows))
        lesions = read(out).lesions
        assert lesions.num_rows == len(rows)
        assert (lesions.num_lesions, lesions.num_with_image) == (len(rows) - 3, len(rows) - 4)
        assert sum(lesions.rejected.values()) == 3
        assert [count for kind, count in lesions.rejected.items() if kind.startswith("no image file")] == [1]
        assert not any(str(manifests.folder) in reason for reason in lesions.rejected)
        said = " ".join(capsys.readouterr().out.split())
        assert f"{len(rows) - 4} of {len(rows) - 3} lesions have an image" in said
        assert "set aside 1: no image file" in said
        with (out / "rejects.csv").open() as stream:
            assert {row["lesion_id"] for row in csv.DictReader(stream)} == {
                rows[number]["lesion_id"] for number in (0, 1, 3)
            }

    def test_sites_are_those_of_the_roster(self, smoke, manifests, evaluate, capsys):
        table = manifests.write("test.csv", rows_of_test_patients(manifests))
        roster = smoke.root / "sites.csv"
        everybody = read(evaluate("--manifest", table, "--roster", roster))
        by_site = {group.value: group for group in everybody.evidence.groups if group.attribute == "site"}
        one = read(evaluate("--manifest", table, "--roster", roster, "--site", "W f u"))
        assert one.lesions.num_lesions == by_site["WFU"].num_lesions < everybody.lesions.num_lesions
        line = refused(capsys, smoke.first, "--manifest", table, "--roster", roster, "--site", "xyz", "--out", "unused")
        assert "Expected --site xyz to be one of those in the roster: " in line
        line = refused(capsys, smoke.first, "--manifest", table, "--site", "WFU", "--out", "unused")
        assert "Expected a roster" in line

    def test_recalibration_is_shown_on_others(self, manifests, evaluate, capsys):
        table = manifests.write("all.csv", manifests.rows)
        out = evaluate("--manifest", table, "--recalibrate", "outcomes:60")
        found = read(out).recalibration
        assert found.num_lesions_used >= 60
        assert found.num_lesions_used + found.num_lesions_left == len(manifests.rows)
        assert [estimate.name for estimate in found.before] == [estimate.name for estimate in found.after]
        assert "never sent" in (out / REPORT_FILE).read_text()
        assert "never sent" in " ".join(capsys.readouterr().out.split())
        by_mean = read(evaluate("--manifest", table, "--recalibrate", "mean")).recalibration
        assert (by_mean.scale, by_mean.kind) == (None, "mean")
        # Nothing but the recalibration differs.
        assert read(out).evidence == read(evaluate("--manifest", table)).evidence


class TestWhatDoesNotFit:
    def test_boxes_on_films_for_a_network_of_crops(self, smoke, manifests, capsys):
        rows = [
            {**row, "roi_x": "1", "roi_y": "1", "roi_w": "9", "roi_h": "9"} for row in rows_of_test_patients(manifests)
        ]
        table = manifests.write("boxes.csv", rows, (*rows[0],))
        line = refused(capsys, smoke.first, "--manifest", table, "--out", "unused")
        assert "data.image.mode=crop" in line
        assert "got boxes on films" in line

    def test_a_table_without_the_columns_that_the_network_reads(self, smoke, manifests, capsys, evaluate):
        rows = rows_of_test_patients(manifests)
        table = manifests.write("few.csv", rows, [c for c in rows[0] if not c.startswith("mass_")])
        line = refused(capsys, smoke.first, "--manifest", table, "--out", "unused")
        assert "got no column mass_shape, mass_margins" in line
        empty = [{**row, "mass_shape": "", "mass_margins": ""} for row in rows]
        notes = read(evaluate("--manifest", manifests.write("empty.csv", empty))).lesions.notes
        assert any("No row has mass_shape, mass_margins" in note for note in notes)

    def test_a_folder_with_something_in_it(self, smoke, manifests, capsys, tmp_path):
        (tmp_path / "taken").mkdir()
        (tmp_path / "taken" / "file").touch()
        table = manifests.write("test.csv", rows_of_test_patients(manifests))
        line = refused(capsys, smoke.first, "--manifest", table, "--out", tmp_path / "taken")
        assert "to be a new folder" in line

    @pytest.mark.parametrize("content", ["patient_id\n", "", "a,b\n1,2\n"])
    def test_a_table_of_other_things(self, smoke, manifests, capsys, content):
        path = manifests.folder / "other.csv"
        path.write_text(content)
        assert refused(capsys, smoke.first, "--manifest", path, "--out", "unused").startswith("error: Expected")

    def test_no_table_and_no_run(self, smoke, capsys, tmp_path):
        assert "Expected" in refused(capsys, smoke.first, "--manifest", tmp_path / "none.csv")
        assert "Expected data.root=" in refused(capsys, smoke.first, "--data-root", tmp_path / "none")
        assert "Expected a finished run" in refused(capsys, tmp_path, "--data-root", smoke.root)
        damaged = shutil.copytree(smoke.first, tmp_path / "damaged")
        (damaged / "model.safetensors").write_bytes(b"nothing")
        assert "Expected a finished run" in refused(capsys, damaged, "--data-root", smoke.root)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "expected either --manifest FILE or --data-root FOLDER"),
            (["--manifest", "a.csv", "--data-root", "b"], "expected either --manifest FILE or --data-root FOLDER"),
            (["--manifest", "a.csv", "--split", "validation"], "to be one of train, test, all"),
            (["--manifest", "a.csv", "--recalibrate", "outcomes:9"], "expected 9 >= 10"),
            (["--manifest", "a.csv", "--recalibrate", "outcomes:many"], "to be a whole number"),
            (["--manifest", "a.csv", "--recalibrate", "both"], "to be mean or outcomes:NUMBER"),
        ],
    )
    def test_wrong_usage_is_one_line(self, arguments, message, capsys):
        assert main(["evaluate", "run", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def without_threshold(folder):
    path = folder / RESULTS_FILE
    values = json.loads(path.read_text())
    for name in ("threshold", "sensitivity", "sensitivity_interval", "specificity", "specificity_interval"):
        values["final"][name] = None
    path.write_text(json.dumps(values))
    (folder / PREDICTIONS_FILE).unlink()
    return folder


def test_a_run_without_threshold_and_test_lesions_gives_ranks_only(smoke, evaluate, tmp_path, capsys):
    run = without_threshold(shutil.copytree(smoke.first, tmp_path / "run"))
    out = evaluate("--data-root", smoke.root, of=run)
    evaluation = read(out)
    assert figure(evaluation, "auroc") is not None
    assert figure(evaluation, "sensitivity") is None
    assert evaluation.scores.num_called is None
    assert evaluation.drift.differences == ()
    notes = " ".join(evaluation.lesions.notes)
    assert "no threshold" in notes
    assert "no test lesions of its own" in notes
    assert "nothing can be said about drift" in (out / REPORT_FILE).read_text()


def test_the_cache_that_a_run_names_is_left_alone(smoke, manifests, tmp_path):
    """A run's folder may come from somebody else, who must not say where files are written."""
    run = shutil.copytree(smoke.first, tmp_path / "run")
    config = (run / CONFIG_FILE).read_text()
    (run / CONFIG_FILE).write_text(config.replace(str(smoke.cache), str(tmp_path / "theirs")))
    assert "theirs" in (run / CONFIG_FILE).read_text()
    table = manifests.write("three.csv", rows_of_test_patients(manifests)[:3])
    assert main(["evaluate", str(run), "--manifest", str(table)]) == 0
    assert not (tmp_path / "theirs").exists()
    assert (tmp_path / ".cache").is_dir()


def test_names_and_cells_cannot_become_markup(manifests, evaluate, capsys):
    rows = [dict(row) for row in rows_of_test_patients(manifests)]
    rows[0]["label"] = "<script>alert(1)</script>"
    out = evaluate("--manifest", manifests.write("[bold]a<b>.csv", rows))
    page = (out / REPORT_FILE).read_text()
    assert "<script" not in page
    assert "[bold]a&lt;b&gt;" in page
    assert "[bold]a<b>" in capsys.readouterr().out


def test_a_network_of_columns_alone_reads_no_image(clinical_phantom, tmp_path, capsys):
    run = tmp_path / "clinical"
    assert main(["simulate", *clinical_phantom.overrides(run)]) == 0
    assert main(["evaluate", str(run), "--data-root", str(clinical_phantom.root)]) == 0
    evaluation = read(run / f"evaluation-{clinical_phantom.root.name}")
    own = read_results(run / RESULTS_FILE).evidence
    assert without_delong(evaluation.evidence) == without_delong(own)
    assert evaluation.lesions.num_with_image == 0
    assert evaluation.drift.features is None


def test_a_network_of_images_alone_needs_them(run_smoke, manifests, evaluate, capsys):
    run = run_smoke("model.modality=image", "training.num_rounds=1")
    rows = [dict(row) for row in rows_of_test_patients(manifests)]
    rows[0]["image_path"] = ""
    lesions = read(evaluate("--manifest", manifests.write("gap.csv", rows), of=run)).lesions
    assert (lesions.num_lesions, lesions.num_with_image) == (len(rows) - 1, len(rows) - 1)
    assert list(lesions.rejected) == ["no image, and nothing else is read"]
    table = manifests.write("none.csv", [{**row, "image_path": ""} for row in rows])
    assert "to name images in column image_path" in refused(capsys, run, "--manifest", table, "--out", "unused")


def test_a_head_of_one_exchange_scores_its_own_test_lesions_as_the_run_did(run_smoke, manifests, evaluate):
    run = run_smoke("strategy=one_shot", "training.num_rounds=1", "evaluation.threshold_from=training")
    rows = rows_of_test_patients(manifests)
    out = evaluate("--manifest", manifests.write("one-shot.csv", rows), of=run)
    own, found = (np.sort(Predictions.from_csv(folder / PREDICTIONS_FILE).scores) for folder in (run, out))
    np.testing.assert_array_equal(own, found)


def test_a_private_mean_and_other_lesion_types(run_smoke, manifests, evaluate, capsys):
    run = run_smoke(
        *("model.feature_constants=private_mean", "model.image_components=0", "data.lesion_types=[mass]"),
        *("data.views=all", "training.num_rounds=1"),
    )
    rows = rows_of_test_patients(manifests)
    table = manifests.write("types.csv", rows)
    evaluation = read(evaluate("--manifest", table, of=run))
    masses = [row for row in rows if row["abnormality_type"] == "mass"]
    assert evaluation.lesions.num_lesions == len(masses) < len(rows)
    assert list(evaluation.lesions.rejected) == ["lesion type calcification, on which the network was not trained"]
    own = Predictions.from_csv(run / PREDICTIONS_FILE)
    assert evaluation.drift.features.is_cosine
    # What 19 patients' noise leaves, and no more.
    assert 0.1 < evaluation.drift.features.value < 0.5
    assert evaluation.drift.features.value == pytest.approx(evaluation.drift.features.without_drift, abs=0.15)
    # Masses need no columns of calcifications, and without finding_id no views are averaged.
    few = [c for c in rows[0] if not c.startswith("calc_") and c != "finding_id"]
    other = read(evaluate("--manifest", manifests.write("masses.csv", masses, few), of=run))
    assert any("finding_id" in note for note in other.lesions.notes)
    assert other.scores != evaluation.scores
    assert sum(evaluation.scores.bins) == len(own.scores)
