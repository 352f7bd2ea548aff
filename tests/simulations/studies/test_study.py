"""Whole studies on a small phantom, from the command line: tables, plots, and going on after an interruption."""

import csv
import json

import numpy as np
import pytest

from server.results.document import read_results
from shared_model.config.fingerprints import source_fingerprint
from shared_model.errors import RoundError
from simulations.commands.app import main
from simulations.studies import runner as study_runner

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_pictures_in_module", "decoders_stay")]
SITES = ("ISMD", "MGH", "WFU")
HERE = ("--workers", "1")
"""No process of its own for a run: it would take longer to start than to run."""


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
def cross_site(overrides, blank_pictures_in_module, tmp_path_factory):
    """The folder of a finished cross-site study of two seeds, which read the same patients."""
    folder = tmp_path_factory.mktemp("cross-site")
    more = ("phantom.num_patients=null", "--seeds", "0,1", "--out", str(folder))
    assert main(["study", "cross-site", *overrides, *HERE, *more]) == 0
    return folder


@pytest.fixture
def run(overrides, tmp_path):
    def start(protocol, *more):
        assert main(["study", protocol, *overrides, *more, *HERE, "--out", str(tmp_path / protocol)]) == 0
        return tmp_path / protocol

    return start


def rows_of(folder):
    with (folder / "study.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_cross_validation_runs_every_fold_and_goes_on(run, monkeypatch, capsys):
    folder = run("cross-validation", "--folds", "2")
    rows = rows_of(folder)
    assert [row["training"] for row in rows] == ["fold 1", "fold 2"]
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
        raise AssertionError("a finished run was repeated")

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


def test_every_network_is_tested_at_every_hospital(cross_site):
    folder = cross_site
    rows = [row for row in rows_of(folder) if row["seed"] == "0"]
    assert [row["training"] for row in rows] == ["federated", "MGH alone", "WFU alone", "ISMD alone"]
    assert all(row[f"AUC at {site}"] for row in rows for site in SITES)
    assert (folder / "cross_site.png").read_bytes().startswith(b"\x89PNG")
    alone = read_results(folder / "seed-0" / "MGH-alone" / "results.json")
    assert [site.site for site in alone.sites] == ["MGH"]
    # The same lesions as the federation's, so that differences are paired.
    assert alone.final.num_lesions == read_results(folder / "seed-0" / "federated" / "results.json").final.num_lesions
    assert rows[0]["AUC less first"] == "-"
    assert "p " in rows[1]["AUC less first"]


def test_baselines_stand_beside_the_federation(run):
    rows = {row["training"]: row for row in rows_of(run("baselines"))}
    assert {"federated", "centralised", "image only", "clinical only", "majority"} <= set(rows)
    assert rows["majority"]["AUC"].startswith("0.500")
    assert rows["majority"]["specificity"].startswith("1.000")
    assert "logistic regression, central, no privacy" in rows


def test_the_epsilon_study_promises_what_it_says(run):
    folder = run("epsilon", "--seeds", "0")
    document = json.loads((folder / "study.json").read_text())
    assert [row["epsilon"] for row in document["rows"]] == [None, 0.5, 1, 2, 4, 8]
    assert (folder / "epsilon.png").exists()
    for row in document["rows"][1:]:
        results = read_results(folder / "seed-0" / f"epsilon-{row['epsilon']:g}" / "results.json")
        assert max(site.epsilon for site in results.sites) <= row["epsilon"]
    page = (folder / "seed-0" / "epsilon-4" / "report.html").read_text()
    assert "AUC over epsilon, means over seeds" in page


def test_seeds_are_averaged(cross_site):
    document = json.loads((cross_site / "study.json").read_text())
    assert {summary["num_seeds"] for summary in document["summaries"]} == {2}
    assert len(document["rows"]) == 8


def test_a_run_that_fails_is_named_with_what_to_do(overrides, tmp_path, monkeypatch, capsys):
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
