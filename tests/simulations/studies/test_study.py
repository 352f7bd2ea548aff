"""Studies on a small phantom: who is trained on and tested on, tables, and going on after an interruption."""

import csv
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.tables.site_table import read_roster
from server.evaluation.predictions import Predictions
from server.results.document import read_results
from shared_model.config.composition import compose
from shared_model.config.fingerprints import source_fingerprint
from shared_model.errors import ConfigError, RoundError
from shared_model.metrics.roc import auroc
from simulations.commands.app import main
from simulations.federation.prepare import prepare
from simulations.studies import runner as study_runner
from simulations.studies.protocols import PROTOCOLS, Ground, assign_folds, cross_validation

pytestmark = pytest.mark.slow
SITES = ("ISMD", "MGH", "WFU")
HERE = ("--workers", "1")
"""No process of its own for a cell: it would take longer to start than to run."""


@pytest.fixture(scope="module")
def overrides(smoke):
    fixed = (
        "preset=smoke",
        f"data.root={smoke.root}",
        f"data.cache_dir={smoke.cache}",
        "evaluation.bootstrap_resamples=100",
    )
    return [*fixed, "privacy.noise=seeded"]


@pytest.fixture(scope="module")
def ground(overrides, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ground")
    config = compose([*overrides, f"run.dir={folder}"])
    return Ground.of(prepare(config, on_progress=lambda *_: None))


@pytest.fixture
def run(overrides, tmp_path):
    def start(protocol, *more):
        assert main(["study", protocol, *overrides, *more, *HERE, "--out", str(tmp_path / protocol)]) == 0
        return tmp_path / protocol

    return start


def config_of(ground, cell):
    base = ["preset=smoke", f"data.root={ground.config.data.root}", "run.dir=unused"]
    return compose([*base, *cell.overrides])


def rows_of(folder):
    with (folder / "study.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


class TestFolds:
    @given(
        st.lists(st.tuples(st.sampled_from(SITES), st.integers(0, 1)), min_size=5, max_size=60),
        st.integers(2, 5),
        st.integers(0, 3),
    )
    def test_are_balanced_and_whole(self, patients, num_folds, seed):
        names = [f"p{number}" for number in range(len(patients))]
        owner = {name: site for name, (site, _) in zip(names, patients, strict=True)}
        # Two lesions each, the second benign: the patient is as malignant as the worst.
        frame = pd.DataFrame({"patient_id": names * 2, "label": [label for _, label in patients] + [0] * len(names)})
        generator = np.random.default_rng(seed)
        folds = assign_folds(frame, owner, num_folds=num_folds, generator=generator)
        assert set(folds) == set(names)
        strata = {(site, label) for site, label in patients} | {None}
        for stratum in strata:
            members = [n for n, of in zip(names, patients, strict=True) if stratum is None or of == stratum]
            sizes = [sum(folds[name] == fold for name in members) for fold in range(num_folds)]
            assert max(sizes) - min(sizes) <= 1

    @pytest.mark.parametrize("num_folds", [1, 4])
    def test_need_enough_patients(self, num_folds):
        frame = pd.DataFrame({"patient_id": ["a", "b", "c"], "label": [0, 1, 0]})
        with pytest.raises(ConfigError, match=rf"2 <= number of folds={num_folds} <= 3 patients"):
            assign_folds(frame, dict.fromkeys("abc", "X"), num_folds=num_folds, generator=np.random.default_rng(0))


def test_no_patient_is_trained_and_tested_on_and_the_test_split_stays_unseen(ground):
    frame = ground.prepared.table.frame
    tested_by_fold = []
    for cell in cross_validation(ground, num_folds=3):
        config = config_of(ground, cell)
        trained = set(read_roster(config.data))
        left_out = set(frame.loc[frame["split"] == "train", "patient_id"]) - trained
        tested_by_fold.append(left_out)
        assert not trained & set(frame.loc[frame["split"] == "test", "patient_id"])
        holdout = pd.read_csv(config.evaluation.holdout.replace(".safetensors", ".csv"))
        mine = frame[frame["patient_id"].isin(left_out)]
        assert holdout["pathology"].tolist() == mine["pathology"].tolist()
    assert set.union(*tested_by_fold) == set(frame.loc[frame["split"] == "train", "patient_id"])
    assert sum(map(len, tested_by_fold)) == len(set.union(*tested_by_fold))


def test_a_hospital_that_is_left_out_is_tested_whole_and_never_asked(ground):
    for site, cell in zip(ground.sites, PROTOCOLS["leave-one-hospital-out"](ground), strict=True):
        config = config_of(ground, cell)
        assert site not in config.federation.sites
        assert len(config.federation.sites) == 2
        holdout = pd.read_csv(config.evaluation.holdout.replace(".safetensors", ".csv"))
        assert set(holdout["site"]) == {site}
        assert len(holdout) == sum(
            ground.owner[patient] == site for patient in ground.prepared.table.frame["patient_id"]
        )


def test_cross_validation_runs_every_fold_and_goes_on(run, monkeypatch, capsys):
    folder = run("cross-validation", "--folds", "2")
    rows = rows_of(folder)
    assert [row["cell"] for row in rows] == ["fold 1", "fold 2"]
    document = json.loads((folder / "study.json").read_text())
    values = [row["evidence"]["levels"][0]["figures"][0]["value"] for row in document["rows"]]
    (summary,) = document["summaries"]
    assert summary["mean"]["auroc"] == pytest.approx(np.mean(values))
    assert summary["deviation"]["auroc"] == pytest.approx(np.std(values, ddof=1))
    assert "Every run" in capsys.readouterr().out
    written = (folder / "study.md").read_text()
    assert "| all 2 folds | 2 |" in written
    assert written.endswith(f"\nProvenance: source {source_fingerprint()[:12]}, seeds 0\n")

    def fail(*_):
        raise AssertionError("a finished cell was run again")

    monkeypatch.setattr(study_runner, "simulate", fail)
    before = (folder / "study.json").read_bytes()
    assert run("cross-validation", "--folds", "2") == folder
    assert (folder / "study.json").read_bytes() == before


def test_an_interrupted_study_goes_on(run, overrides, tmp_path, monkeypatch, capsys):
    real, calls = study_runner.simulate, []

    def interrupt(config, console):
        calls.append(config.run.dir)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(config, console)

    monkeypatch.setattr(study_runner, "simulate", interrupt)
    name = "leave-one-hospital-out"
    arguments = ["study", name, *overrides, *HERE, "--out", str(tmp_path / name)]
    assert main(arguments) == 130
    assert "goes on" in capsys.readouterr().err
    assert main(arguments) == 0
    assert len(calls) == 4
    assert calls[0] not in calls[1:]


def test_every_network_is_tested_at_every_hospital(run):
    folder = run("cross-site")
    rows = rows_of(folder)
    assert [row["cell"] for row in rows] == ["federated", "MGH alone", "WFU alone", "ISMD alone"]
    assert all(row[f"AUC at {site}"] for row in rows for site in SITES)
    assert (folder / "cross_site.png").read_bytes().startswith(b"\x89PNG")
    alone = read_results(folder / "seed-0" / "MGH-alone" / "results.json")
    assert [site.site for site in alone.sites] == ["MGH"]
    # The same lesions as the federation's, so that differences are paired.
    assert alone.final.num_lesions == read_results(folder / "seed-0" / "federated" / "results.json").final.num_lesions
    assert rows[0]["AUC less first"] == "-"
    assert "p " in rows[1]["AUC less first"]


def test_baselines_stand_beside_the_federation(run):
    rows = {row["cell"]: row for row in rows_of(run("baselines"))}
    assert {"federated", "centralised", "image only", "clinical only", "majority"} <= set(rows)
    assert rows["majority"]["AUC"].startswith("0.500")
    assert rows["majority"]["specificity"].startswith("1.000")
    assert "logistic regression, central, no privacy" in rows


def test_the_logistic_regression_is_scikit_learns(ground):
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    from client.data.dataset import load_lesions  # noqa: PLC0415
    from client.data.splits import Role  # noqa: PLC0415
    from simulations.studies.tabular_baseline import LOGISTIC, tabular_baselines  # noqa: PLC0415

    lesions, _ = load_lesions(ground.prepared.table, ground.config)
    train, test = lesions[Role.TRAIN], lesions[Role.TEST]
    model = LogisticRegression(max_iter=1000).fit(train.clinical.numpy(), train.labels.numpy())
    expected = auroc(test.labels.numpy(), model.predict_proba(test.clinical.numpy())[:, 1])
    predictions = Predictions.from_lesions(test, np.zeros(len(test)), {})
    found = tabular_baselines(ground.prepared, test, predictions)[LOGISTIC]
    assert found.levels[0].estimate("auroc").value == pytest.approx(expected)


def test_epsilon_sweep_promises_what_it_says(run):
    folder = run("epsilon", "--seeds", "0")
    document = json.loads((folder / "study.json").read_text())
    assert [row["epsilon"] for row in document["rows"]] == [None, 0.5, 1, 2, 4, 8]
    assert (folder / "epsilon.png").exists()
    for row in document["rows"][1:]:
        results = read_results(folder / "seed-0" / f"epsilon-{row['epsilon']:g}" / "results.json")
        assert max(site.epsilon for site in results.sites) <= row["epsilon"]
    page = (folder / "seed-0" / "epsilon-4" / "report.html").read_text()
    assert "AUC over epsilon, means over seeds" in page


def test_seeds_are_averaged(run):
    # The phantom of another seed is another; here both seeds read the same patients.
    folder = run("cross-site", "phantom.num_patients=null", "--seeds", "0,1")
    document = json.loads((folder / "study.json").read_text())
    assert {summary["num_seeds"] for summary in document["summaries"]} == {2}
    assert len(document["rows"]) == 8


def test_a_cell_that_fails_is_named_with_what_to_do(overrides, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RoundError("Expected at least 1 valid replies in round 20, got 0.")

    monkeypatch.setattr(study_runner, "simulate", fail)
    assert main(["study", "cross-site", *overrides, *HERE, "--out", str(tmp_path)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "federated: Expected at least 1 valid replies in round 20" in said
    assert "remove" in said


def test_another_study_in_the_same_folder_is_refused(overrides, tmp_path, capsys):
    (tmp_path / "study_overrides.json").write_text(json.dumps({"protocol": "epsilon"}))
    assert main(["study", "cross-site", *overrides, "--out", str(tmp_path)]) == 1
    assert "Expected the same study as before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--workers", "0", "expected 0 >= 1"), ("--seeds", "0,0", "expected 0,0 to be distinct")],
)
def test_the_command_line_is_checked(capsys, option, value, message):
    assert main(["study", "cross-site", option, value]) == 2
    assert message in capsys.readouterr().err


def test_one_site_is_no_federation_to_study(ground):
    federation = dataclasses.replace(ground.config.federation, sites=("MGH",), min_sites=1)
    prepared = dataclasses.replace(ground.prepared, config=dataclasses.replace(ground.config, federation=federation))
    with pytest.raises(ConfigError, match="two sites or more"):
        Ground.of(prepared)
