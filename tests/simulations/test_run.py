"""Whole simulations through the command's own entry point, on real DICOM files on disk."""

import csv
import dataclasses
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load, load_file
from sklearn.metrics import roc_auc_score

import client.app
import client.data.image_cache
import client.data.images
import client.data.network_inputs
import server.report.run_display
from client.data.splits import Role
from client.data.tables.site_table import site_table
from client.privacy.ledger import Ledger
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Purpose, Reserved, Unprotected
from server.evaluation.predictions import Predictions
from server.results.document import read_results
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import DataError, LedgerError
from shared_model.network.fusion import build_network
from shared_model.network.scoring import predict
from shared_model.network.state import load_constants, load_trainable, trainable_state
from shared_model.vocabulary import clinical_width
from simulations.patient_roles import lesions_by_role
from simulations.run import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("decoders_stay")]
DEPLOYED = [
    "data.public_fraction=0",
    "model.image_components=0",
    "model.feature_constants=private_mean",
    "evaluation.threshold_from=training",
]
"""The recipe of a deployment: nobody is public, and nobody is kept from training."""


def one_line_error(capsys, *arguments):
    """Run the command, expect a failure and return its one line."""
    assert main(list(arguments)) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def edit_tables(root, change):
    """Rewrite every case description row by row; ``change`` returns the new row or None to drop it."""
    for path in root.glob("*_case_description_*.csv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
            names = list(rows[0])
        kept = [row for row in map(change, rows) if row is not None]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(kept)


@pytest.fixture
def copied(smoke, tmp_path):
    """A copy of the phantom that a test may damage; the marker goes, as these are now data and no phantom."""
    root = tmp_path / "copy"
    shutil.copytree(smoke.root, root)
    return root


@pytest.fixture
def real(smoke, copied, tmp_path):
    """Overrides that use the copy as data of its own; the cache knows those images that no test has damaged."""
    return [
        "preset=smoke",
        "phantom.num_patients=null",
        f"data.root={copied}",
        f"data.cache_dir={smoke.cache}",
        f"run.dir={tmp_path / 'run'}",
    ]


@pytest.fixture(scope="module")
def seeded(smoke, tmp_path_factory):
    """Return the folder of a run with seeded noise that nothing disturbed; equal overrides are run once."""
    folders = {}

    def run(*overrides):
        if overrides not in folders:
            folders[overrides] = tmp_path_factory.mktemp("seeded") / "run"
            assert main(smoke.overrides(folders[overrides], "privacy.noise=seeded", *overrides)) == 0
        return folders[overrides]

    return run


class TestFinishedRun:
    def test_leaves_a_complete_run_folder(self, smoke):
        names = {path.name for path in smoke.first.iterdir()}
        files = {"config.yaml", "model.safetensors", "results.json", "roc.png", "rounds.png"}
        files |= {"predictions.csv", "decisions.json", "report.html", "model_card.md", "public.safetensors"}
        assert names == files | {"ledgers", "privacy", "sites"}

    def test_the_model_file_gives_the_scores_of_the_predictions(self, smoke):
        config = ExperimentConfig.from_json(json.dumps(yaml.safe_load((smoke.first / "config.yaml").read_text())))
        arrays = load((smoke.first / "model.safetensors").read_bytes())
        network = build_network(config.model, clinical_width(config.data.features), seed=99)
        names = set(trainable_state(network))
        load_trainable(network, {name: arrays[name] for name in names})
        load_constants(network, {name: array for name, array in arrays.items() if name not in names})
        # Public patients are at no site, and none of them is a test patient.
        lesions, _ = lesions_by_role(site_table(config, None), config)
        predictions = Predictions.from_csv(smoke.first / "predictions.csv")
        np.testing.assert_allclose(predict(network, lesions[Role.TEST]), predictions.scores, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("name", ["federation", "MGH", "WFU", "ISMD"])
    def test_privacy_reports_are_there(self, smoke, name):
        assert "epsilon" in (smoke.first / "privacy" / f"{name}.html").read_text()
        assert json.loads((smoke.first / "privacy" / f"{name}.json").read_text())

    def test_nothing_is_released_without_noise(self, smoke):
        for site in ("MGH", "WFU", "ISMD"):
            cohorts = json.loads((smoke.first / "privacy" / f"{site}.json").read_text())["cohorts"]
            # Training patients, and the test patients' one histogram.
            assert [cohort["num_unprotected"] for cohort in cohorts] == [0, 0]
        federation = json.loads((smoke.first / "privacy" / "federation.json").read_text())
        assert 0 < federation["all_patients"]["epsilon_at_one_site"] <= 8
        for page in (smoke.first / "privacy").glob("*.html"):
            assert "nothing bounds" not in page.read_text().lower()

    def test_figures_of_every_site_are_of_its_own_test_patients_at_the_server(self, smoke):
        results = read_results(smoke.first / "results.json")
        predictions = Predictions.from_csv(smoke.first / "predictions.csv")
        for site in results.sites:
            rows = np.array(predictions.attributes["site"]) == site.site
            assert site.num_test_lesions == rows.sum() > 0
            expected = roc_auc_score(predictions.labels[rows], predictions.scores[rows])
            assert site.auroc == pytest.approx(expected)

    def test_every_round_is_scored_at_the_server(self, smoke):
        results = read_results(smoke.first / "results.json")
        assert all(None not in (entry.auroc, entry.sensitivity, entry.threshold) for entry in results.rounds)

    def test_results_have_what_scripts_rely_on(self, smoke):
        results = json.loads((smoke.first / "results.json").read_text())
        final = results["final"]
        assert {"auroc", "sensitivity", "specificity", "threshold", "num_lesions"} <= set(final)
        assert 0 <= final["auroc"] <= 1
        assert [entry["round"] for entry in results["rounds"]] == [1, 2, 3]
        assert {"auroc", "sensitivity", "specificity"} <= set(results["rounds"][0])
        assert [site["site"] for site in results["sites"]] == ["ISMD", "MGH", "WFU"]
        keys = {"site", "num_patients_declared", "epsilon", "delta", "noise_multiplier", "auroc"}
        assert all(keys <= set(site) for site in results["sites"])
        assert results["privacy"]["unit"] == "patient"
        assert len(results["provenance"]["source_fingerprint"]) == 64

    def test_no_site_spends_more_than_the_target(self, smoke):
        results = read_results(smoke.first / "results.json")
        assert all(7.9 < site.epsilon <= 8.0 for site in results.sites)

    @pytest.mark.usefixtures("blank_pictures")
    def test_summed_exact_histograms_agree_with_pooled_scores(self, run_smoke):
        final = read_results(run_smoke("evaluation.privacy=exact") / "results.json").final
        assert abs(final.auroc - final.auroc_site_histograms) <= final.auroc_site_histograms_error_bound + 1e-12

    def test_declared_sizes_are_rounded_down(self, smoke):
        results = read_results(smoke.first / "results.json")
        assert all(site.num_patients_declared % 2 == 0 for site in results.sites)

    @pytest.mark.usefixtures("blank_pictures")
    def test_a_second_run_reads_no_image(self, run_smoke, monkeypatch):
        monkeypatch.setattr(client.data.images, "read_image", lambda path: pytest.fail(f"read {path}"))
        run_smoke("seed=0")

    def test_will_not_overwrite_results(self, smoke, capsys):
        assert "name a new folder" in one_line_error(capsys, *smoke.overrides(smoke.first))


@pytest.mark.usefixtures("blank_pictures")
class TestReproducibility:
    def test_seeded_noise_gives_equal_parameters_and_says_that_it_protects_nobody(self, seeded, run_smoke):
        first, second = seeded(), run_smoke("privacy.noise=seeded")
        assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
        assert "nobody was protected" in read_results(first / "results.json").privacy.statement

    def test_secure_noise_differs_between_runs(self, smoke, run_smoke):
        first, second = load_file(smoke.first / "model.safetensors"), load_file(run_smoke() / "model.safetensors")
        assert any((first[name] != second[name]).any() for name in first)

    def test_the_number_of_workers_changes_nothing(self, run_smoke):
        folders = [run_smoke("privacy=off", f"federation.num_workers={n}") for n in (1, 3)]
        assert (folders[0] / "model.safetensors").read_bytes() == (folders[1] / "model.safetensors").read_bytes()


class TestChoices:
    @pytest.mark.parametrize(
        "overrides",
        [
            ["model.modality=clinical"],
            ["data.features=reader"],
            ["data.lesion_types=[mass]", "model.image_components=2"],
            ["data.public_fraction=0", "data.validation_fraction=0.3", "model.image_components=0"],
            DEPLOYED,
            ["federation.partition=iid", "federation.sites=[A,B,C,D]"],
        ],
        ids=" ".join,
    )
    def test_completes_with_pictures_of_other_figures(self, run_smoke, overrides):
        results = read_results(run_smoke(*overrides) / "results.json")
        assert results.final.auroc is not None

    @pytest.mark.usefixtures("blank_pictures")
    @pytest.mark.parametrize(
        "overrides",
        [
            ["model.modality=image"],
            ["model.fusion=mid"],
            ["model.fusion=late"],
            ["model.hidden_width=8"],
            ["strategy=fedavg"],
            ["strategy=fedadam"],
            ["strategy=fedprox"],
            ["training.sampling_rate=0.5"],
            ["training.loss=focal"],
            [*DEPLOYED, "privacy=off"],
            [*DEPLOYED, "model.modality=clinical"],
            [*DEPLOYED, "strategy.aggregation=median", "training.sampling_rate=0.5"],
            ["federation.partition=label_skew", "federation.sites=[A,B]", "federation.concentration=50"],
            ["model.backbone=small_cnn", "data.image.size=32", "training.num_rounds=1", "model.image_components=0"],
        ],
        ids=" ".join,
    )
    def test_completes(self, run_smoke, overrides):
        results = read_results(run_smoke(*overrides) / "results.json")
        assert results.final.auroc is not None

    @pytest.mark.usefixtures("blank_pictures")
    @pytest.mark.parametrize("mode", ["roi", "film"])
    def test_cuts_from_films(self, run_smoke, mode):
        assert read_results(run_smoke(f"data.image.mode={mode}") / "results.json").final.num_lesions > 0

    def test_privacy_off_completes_and_reports_no_epsilon(self, run_smoke):
        results = read_results(run_smoke("privacy=off") / "results.json")
        assert results.final.auroc is not None
        assert results.privacy.unit == "none"
        assert all(site.epsilon is None for site in results.sites)


@pytest.mark.usefixtures("blank_pictures")
class TestOneShot:
    OVERRIDES = ("strategy=one_shot", "training.num_rounds=1", "evaluation.threshold_from=training")

    def test_one_exchange_trains_and_one_calibrates(self, run_smoke):
        # With more noise the phantom's few patients would have no threshold.
        folder = run_smoke(*self.OVERRIDES, "privacy.target_epsilon=100", "privacy.noise=seeded")
        results = read_results(folder / "results.json")
        assert [(entry.round, entry.num_sites) for entry in results.rounds] == [(1, 3)]
        assert 0.5 < results.final.auroc <= 1
        assert 0 < results.final.threshold < 1
        for site in results.sites:
            assert 99 < site.epsilon <= 100
            entries = [
                entry.content for entry in read_history(folder / "ledgers" / site.site / "ledger.sqlite").entries
            ]
            releases = [entry for entry in entries if isinstance(entry, Reserved) and entry.purpose is Purpose.TRAINING]
            assert [(release.server_round, release.max_grad_norm) for release in releases] == [(1, 1.0), (2, 1.0)]

    def test_without_noise_it_ranks_as_many_rounds_do(self, run_smoke):
        one, many = (
            read_results(run_smoke(*overrides, "privacy=off", "evaluation.privacy=none") / "results.json").final.auroc
            for overrides in (self.OVERRIDES, ("training.num_rounds=20",))
        )
        assert one > many - 0.1


@pytest.mark.usefixtures("blank_pictures")
class TestEvaluationBySites:
    """The server's own test scores are the truth that the sites' histograms are held against."""

    def test_noisy_histograms_come_near_the_truth_and_are_charged(self, run_smoke):
        folder = run_smoke("evaluation.target_epsilon=20", "evaluation.dp_num_bins=5", "privacy.noise=seeded")
        final = read_results(folder / "results.json").final
        # So few patients stand out of the noise of smaller budgets or more bins by chance only.
        error = final.auroc_site_histograms_noise_standard_error
        assert 0 < error < 0.5
        assert final.auroc_site_histograms != final.auroc
        near = 4 * error + final.auroc_site_histograms_error_bound
        assert abs(final.auroc_site_histograms - final.auroc) <= near
        for path in (folder / "ledgers").glob("*/ledger.sqlite"):
            spent = [entry.content for entry in read_history(path).entries if isinstance(entry.content, Reserved)]
            (evaluation,) = (release for release in spent if release.purpose is Purpose.EVALUATION)
            assert evaluation.target_epsilon == 20
            assert not any(isinstance(entry.content, Unprotected) for entry in read_history(path).entries)

    def test_without_evaluation_sites_send_no_histogram(self, run_smoke):
        folder = run_smoke("evaluation.privacy=none")
        results = read_results(folder / "results.json")
        assert results.final.auroc_site_histograms is None
        # Those come from the server's own test lesions.
        assert all(site.auroc is not None for site in results.sites)
        for path in (folder / "ledgers").glob("*/ledger.sqlite"):
            contents = [entry.content for entry in read_history(path).entries]
            assert not any(isinstance(content, Unprotected) for content in contents)
            assert {c.purpose for c in contents if isinstance(c, Reserved)} == {Purpose.TRAINING}


def test_what_fails_at_a_site_stays_out_of_the_servers_words(smoke, tmp_path, monkeypatch, caplog, capsys):
    canary = "ZQXCANARYQXZ"

    def fail(*_):
        raise DataError(f"{canary} of Jane Doe is unreadable")

    monkeypatch.setattr(client.app, "train_locally", fail)
    with caplog.at_level(logging.DEBUG):
        assert main(smoke.overrides(tmp_path / "run")) == 1
    # A site's own log may say it; in one process both write to the same.
    ours = [record for record in caplog.records if not record.name.startswith("client")]
    assert ours
    assert canary not in "".join(record.getMessage() + str(record.exc_text) for record in ours)
    said = capsys.readouterr()
    (error,) = (line for line in said.err.splitlines() if line.startswith("error:"))
    assert canary not in said.out + error
    assert DataError.public_reason in error


@pytest.mark.usefixtures("blank_pictures")
def test_a_site_with_a_full_disk_takes_no_part_and_the_others_go_on(run_smoke, monkeypatch):
    reserve = Ledger.reserve

    def on_a_full_disk(ledger, *arguments, **options):
        if ledger.path.parent.name == "WFU":
            raise LedgerError("Expected a ledger that can be written: [Errno 28] No space left on device")
        return reserve(ledger, *arguments, **options)

    monkeypatch.setattr(Ledger, "reserve", on_a_full_disk)
    results = read_results(run_smoke() / "results.json")
    assert [entry.num_sites for entry in results.rounds] == [2, 2, 2]
    assert {site.site for site in results.sites} == {"MGH", "ISMD"}


class TestBadConfiguration:
    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("no_such_key=1", "no_such_key"),
            ("privacy.no_such_key=1", "no_such_key"),
            ("+data.extra=1", "data.extra"),
            ("seed=abc", "seed"),
            ("seed=-1", "seed=-1"),
            ("model.fusion=sideways", "model.fusion"),
            ("privacy.target_epsilon=-1", "privacy.target_epsilon"),
            ("privacy.delta=0.09", "delta"),
            ("federation.min_sites=9", "federation.min_sites"),
            ("data.root=/no/such/folder phantom.num_patients=null", "/no/such/folder"),
            ("federation.sites=[MGH,NOWHERE]", "NOWHERE"),
            ("strategy=median", "median"),
            ("data.public_fraction=0", "operating threshold"),
            ("data.roster=/no/such/roster.csv", "roster.csv"),
        ],
    )
    def test_names_key_and_expectation(self, smoke, tmp_path, capsys, override, expected):
        run_dir = tmp_path / "run"
        assert expected in one_line_error(capsys, *smoke.overrides(run_dir, *override.split()))
        assert not (run_dir / "results.json").exists()

    def test_oversampling_is_no_choice(self, smoke, tmp_path, capsys):
        """Class imbalance is met by bounded weights or focal loss: oversampling breaks the accounting."""
        assert "oversampling" in one_line_error(
            capsys, *smoke.overrides(tmp_path / "run", "+training.oversampling=true")
        )


@pytest.mark.usefixtures("blank_pictures")
class TestBadData:
    def test_missing_table(self, real, copied, capsys):
        (copied / "mass_case_description_train_set.csv").unlink()
        assert "mass_case_description_train_set.csv" in one_line_error(capsys, *real)

    def test_missing_column(self, real, copied, capsys):
        path = copied / "mass_case_description_test_set.csv"
        path.write_text(path.read_text().replace("pathology", "outcome", 1))
        message = one_line_error(capsys, *real)
        assert "pathology" in message
        assert path.name in message

    def test_values_outside_the_vocabulary(self, real, copied, capsys):
        edit_tables(copied, lambda row: {**row, "pathology": "PERHAPS"})
        assert "PERHAPS" in one_line_error(capsys, *real)

    def test_empty_site(self, real, copied, capsys):
        roster = copied / "sites.csv"
        roster.write_text(roster.read_text().replace("ISMD", "MGH"))
        assert "ISMD" in one_line_error(capsys, *real)

    def test_site_with_one_class(self, real, copied, capsys):
        with (copied / "sites.csv").open(newline="") as file:
            site_of = {row["patient_id"]: row["institution"] for row in csv.DictReader(file)}
        edit_tables(
            copied,
            lambda row: {**row, "pathology": "BENIGN"} if site_of[row["patient_id"]] == "MGH" else row,
        )
        message = one_line_error(capsys, *real)
        assert "MGH" in message
        assert "both classes" in message

    def test_corrupt_images(self, real, copied, tmp_path, capsys):
        for path in sorted(copied.rglob("*.dcm")):
            path.write_bytes(path.read_bytes()[:300])
        assert "rejected rows" in one_line_error(capsys, *real)
        rejects = (tmp_path / "run" / "sites" / "MGH" / "rejects.csv").read_text()
        assert ".dcm" in rejects
        assert not (tmp_path / "run" / "results.json").exists()

    def test_a_few_bad_rows_are_listed_and_the_run_goes_on(self, real, copied, tmp_path):
        victim = sorted(copied.glob("Mass-Test*_1"))[0]
        for path in victim.rglob("*.dcm"):
            path.write_bytes(b"no image")
        assert main(real) == 0
        rejects = "".join(path.read_text() for path in (tmp_path / "run" / "sites").rglob("rejects.csv"))
        assert victim.name in rejects


@pytest.mark.usefixtures("blank_pictures")
class TestInterruption:
    @pytest.mark.parametrize("stop_after", [1, 2])
    @pytest.mark.parametrize(
        "overrides", [[], ["strategy=fedadam", "evaluation.privacy=exact"], DEPLOYED], ids=" ".join
    )
    def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(
        self, smoke, seeded, tmp_path, monkeypatch, overrides, stop_after
    ):
        whole, folder, rounds = seeded(*overrides), tmp_path / "killed", []
        overrides = ["privacy.noise=seeded", *overrides]
        on_round = server.report.run_display.RunDisplay.on_round

        def interrupt(display, result):
            rounds.append(result.round)
            if result.round == stop_after:
                raise KeyboardInterrupt
            on_round(display, result)

        monkeypatch.setattr(server.report.run_display.RunDisplay, "on_round", interrupt)
        assert main(smoke.overrides(folder, *overrides)) == 130
        assert (folder / "checkpoint.safetensors").exists()
        monkeypatch.setattr(
            server.report.run_display.RunDisplay, "on_round", lambda _, result: rounds.append(result.round)
        )
        assert main(smoke.overrides(folder, *overrides)) == 0
        assert rounds == [*range(1, stop_after + 1), *range(stop_after + 1, 4)]
        assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        first, second = (read_results(path / "results.json") for path in (whole, folder))
        assert first.final == second.final
        assert first.sites == second.sites
        assert [dataclasses.replace(entry, seconds=0.0) for entry in first.rounds] == [
            dataclasses.replace(entry, seconds=0.0) for entry in second.rounds
        ]
        assert not (folder / "checkpoint.safetensors").exists()

    def test_keeps_what_is_cached_and_leaves_no_results(self, smoke, copied, tmp_path, monkeypatch, capsys):
        overrides = [
            "preset=smoke",
            "phantom.num_patients=null",
            f"data.root={copied}",
            f"data.cache_dir={tmp_path / 'cache'}",
            f"run.dir={tmp_path / 'run'}",
        ]
        put = client.data.image_cache.ImageCache.put

        def put_once(cache, keys, arrays):
            put(cache, keys, arrays)
            raise KeyboardInterrupt

        monkeypatch.setattr(client.data.image_cache.ImageCache, "put", put_once)
        assert main(overrides) == 130
        assert "interrupted" in capsys.readouterr().err
        assert not (tmp_path / "run" / "results.json").exists()
        monkeypatch.undo()
        done = []
        monkeypatch.setattr(
            client.data.network_inputs, "frozen_features", lambda *images: done.append(1) or original(*images)
        )
        assert main(overrides) == 0
        assert len(list((tmp_path / "cache").rglob("entries"))) == 1
        assert len(done) < 142

    def test_help_names_the_overrides(self):
        command = [sys.executable, "-m", "simulations.run", "--help"]
        shown = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
        )
        assert "preset=smoke|phantom|cbis_mass" in shown.stdout


original = client.data.network_inputs.frozen_features
