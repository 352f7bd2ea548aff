"""The run folder: configuration first, results before pictures, and nothing half-written wherever it is interrupted."""

import dataclasses
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.image import imread
from rich.console import Console
from safetensors.numpy import load_file

from server.evaluation.predictions import HISTOGRAM_FILE, PREDICTIONS_FILE, Predictions, counts_from_csv
from server.federation.checkpoints import CHECKPOINT_FILE
from server.federation.rounds import federate
from server.report import plot_style, run_folder
from server.report.html_report import REPORT_FILE, write_report
from server.report.model_card import MODEL_CARD_FILE
from server.report.run_display import print_results
from server.report.run_folder import (
    CONFIG_FILE,
    FAILURE_FILE,
    LOCK_FILE,
    MODEL_FILE,
    PUBLIC_FILE,
    ROC_FILE,
    ROUNDS_FILE,
    RunFolder,
)
from server.results import document
from server.results.document import RESULTS_FILE, read_results
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError
from shared_model.messages import TrainReply
from tests.scripted_federation import SiteGrid

WRITTEN = [CONFIG_FILE, MODEL_FILE, PUBLIC_FILE, PREDICTIONS_FILE, RESULTS_FILE, ROUNDS_FILE, ROC_FILE]
"""In the order in which they must come."""


def train(config, grid):
    return federate(grid, config, on_round=lambda finished: None)


def names_in(folder):
    return {path.name for path in Path(folder).iterdir()}


def spy_on_writes(monkeypatch, before_write):
    """Call ``before_write(path)`` before every file that the run folder writes."""
    write = run_folder.write_atomically

    def spy(path, content):
        before_write(path)
        write(path, content)

    for module in (run_folder, plot_style, document):
        monkeypatch.setattr(module, "write_atomically", spy)


@pytest.fixture(scope="module")
def finished(shared_federation):
    config = shared_federation.config()
    with RunFolder.open(config) as folder:
        training = train(config, SiteGrid())
        assert CHECKPOINT_FILE in names_in(folder.path)
        results = folder.finish(training)
    return folder, training, results


def finish(config, grid):
    with RunFolder.open(config) as folder:
        return folder.finish(train(config, grid))


class TestOpen:
    def test_the_configuration_is_written_at_once_and_reads_back(self, federation, tmp_path):
        config = federation.config(run_dir=tmp_path / "new" / "run")
        folder = RunFolder.open(config)
        assert names_in(folder.path) == {CONFIG_FILE, LOCK_FILE}
        plain = yaml.safe_load((folder.path / CONFIG_FILE).read_text())
        assert ExperimentConfig.from_json(json.dumps(plain)) == config

    def test_it_keeps_the_order_of_the_configuration(self, federation):
        folder = RunFolder.open(federation.config())
        plain = yaml.safe_load((folder.path / CONFIG_FILE).read_text())
        assert list(plain)[:3] == ["preset", "seed", "run"]

    def test_a_folder_with_results_is_refused_and_left_alone(self, federation):
        config = federation.config()
        folder = Path(config.run.dir)
        folder.mkdir()
        (folder / RESULTS_FILE).write_text("{}")
        with pytest.raises(ConfigError, match=r"without the results of another run; name a new folder"):
            RunFolder.open(config)
        assert names_in(folder) == {RESULTS_FILE}

    def test_a_place_where_no_folder_can_be_is_named(self, federation, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match=r"Expected run\.dir=.*file/run to be a folder that can be written"):
            RunFolder.open(federation.config(run_dir=tmp_path / "file" / "run"))

    def test_the_failure_of_an_earlier_attempt_goes_and_its_checkpoint_stays(self, federation):
        config = federation.config()
        folder = Path(config.run.dir)
        folder.mkdir()
        (folder / CHECKPOINT_FILE).write_text("state")
        (folder / FAILURE_FILE).write_text("no quorum")
        with RunFolder.open(config):
            assert names_in(folder) == {CONFIG_FILE, CHECKPOINT_FILE, LOCK_FILE}
        assert names_in(folder) == {CONFIG_FILE, CHECKPOINT_FILE}

    def test_a_failure_is_left_for_others_to_read(self, federation):
        folder = RunFolder.open(federation.config())
        folder.fail("Expected at least 2 sites")
        assert (folder.path / FAILURE_FILE).read_text() == "Expected at least 2 sites"


class TestOneRunAFolder:
    def test_a_second_is_refused_by_name_and_changes_nothing(self, federation):
        config = federation.config()
        with RunFolder.open(config) as folder:
            before = (folder.path / CONFIG_FILE).read_bytes()
            with pytest.raises(ConfigError, match=rf"one process at a time in .*run: process {os.getpid()} on "):
                RunFolder.open(federation.config("seed=1"))
            assert (folder.path / CONFIG_FILE).read_bytes() == before

    def test_it_is_free_again_when_the_first_is_closed(self, federation):
        config = federation.config()
        with pytest.raises(KeyboardInterrupt, match="enough"), RunFolder.open(config):
            raise KeyboardInterrupt("enough")
        with RunFolder.open(config) as folder:
            assert names_in(folder.path) == {CONFIG_FILE, LOCK_FILE}

    def test_a_run_that_ended_while_another_came_in_is_not_overwritten(self, federation, monkeypatch):
        config = federation.config()
        take = run_folder.ProcessLock.take

        def take_late(path):
            (path.parent / RESULTS_FILE).write_text("{}")
            return take(path)

        monkeypatch.setattr(run_folder.ProcessLock, "take", take_late)
        with pytest.raises(ConfigError, match="without the results of another run"):
            RunFolder.open(config)
        assert names_in(config.run.dir) == {RESULTS_FILE}


class TestFinish:
    def test_it_holds_what_a_reader_needs_and_no_checkpoint(self, finished):
        folder, _, results = finished
        assert names_in(folder.path) == set(WRITTEN)
        assert read_results(folder.path / RESULTS_FILE) == results
        for name in (ROC_FILE, ROUNDS_FILE):
            assert imread(folder.path / name).ndim == 3

    def test_the_model_file_holds_the_final_parameters(self, finished):
        folder, training, _ = finished
        arrays = load_file(folder.path / MODEL_FILE)
        expected = {**training.parameters, **training.constants}
        assert {name: array.tolist() for name, array in arrays.items()} == {
            name: array.tolist() for name, array in expected.items()
        }

    def test_predictions_are_the_final_scores_of_the_test_lesions(self, finished, shared_federation):
        folder, training, _ = finished
        predictions = Predictions.from_csv(folder.path / PREDICTIONS_FILE)
        lesions = Lesions.load(shared_federation.holdout)
        assert predictions.scores.tolist() == training.last.metrics.scores.tolist()
        assert predictions.labels.tolist() == lesions.labels.tolist()
        assert predictions.attributes == {}

    def test_attributes_beside_the_test_lesions_make_groups(self, federation):
        num_lesions = len(Lesions.load(federation.holdout))
        rows = "".join(f"{'CC' if row % 2 else 'MLO'}\n" for row in range(num_lesions))
        federation.holdout.with_suffix(".csv").write_text("view\n" + rows)
        config = federation.config()
        results = finish(config, SiteGrid())
        groups = [(group.attribute, group.value, group.num_lesions) for group in results.evidence.groups]
        assert groups == [("view", "CC", 60), ("view", "MLO", 60)]

    def test_times_of_the_run(self, finished):
        folder, _, results = finished
        provenance = results.provenance
        assert provenance.started == folder.started.isoformat(timespec="seconds")
        assert 0 <= provenance.seconds < 3600
        assert provenance.versions["flwr"]

    def test_a_server_without_lesions_leaves_the_sites_exact_counts(self, federation):
        config = federation.config(has_lesions=False)
        with RunFolder.open(config) as folder:
            training = train(config, SiteGrid())
            results = folder.finish(training)
        assert names_in(folder.path) == {*WRITTEN, HISTOGRAM_FILE} - {PREDICTIONS_FILE, PUBLIC_FILE}
        counts, test = counts_from_csv(folder.path / HISTOGRAM_FILE), training.last.metrics.site_test
        assert counts.positives.sum() == test.positives.sum()
        assert results.final.num_lesions == counts.negatives.sum() + counts.positives.sum()

    def test_noisy_counts_are_neither_stored_nor_drawn(self, federation):
        config = federation.config("evaluation.privacy=dp", "evaluation.target_epsilon=1000", has_lesions=False)
        with RunFolder.open(config) as folder:
            results = folder.finish(train(config, SiteGrid()))
        assert names_in(folder.path) == {CONFIG_FILE, MODEL_FILE, ROUNDS_FILE, RESULTS_FILE}
        assert results.evidence is None
        assert results.final.num_lesions is None

    def test_without_validation_patients_there_is_no_threshold_and_all_is_written(self, federation):
        def keep_nobody(reply):
            if isinstance(reply, TrainReply):
                return reply
            nobody = np.zeros(reply.validation.num_bins)
            validation = dataclasses.replace(reply.validation, negatives=nobody, positives=nobody)
            return dataclasses.replace(reply, validation=validation)

        config = federation.config("evaluation.privacy=dp", "evaluation.target_epsilon=1000", has_lesions=False)
        with RunFolder.open(config) as folder:
            results = folder.finish(train(config, SiteGrid(change_reply=keep_nobody)))
        final, console = results.final, Console(file=io.StringIO(), width=120)
        assert 0.5 < final.auroc <= 1
        assert (final.threshold, final.sensitivity, final.specificity) == (None, None, None)
        write_report(folder.path)
        print_results(results, config, console)
        assert "called malignant" not in (folder.path / REPORT_FILE).read_text()
        assert "called malignant" not in (folder.path / MODEL_CARD_FILE).read_text()
        (line,) = (line for line in console.file.getvalue().splitlines() if "threshold" in line)
        assert line.count(" - ") == 2


class TestPictures:
    @pytest.mark.parametrize(
        ("drawing", "error"), [("draw_rounds", OverflowError("too large\nto draw")), ("save_png", OSError("disk full"))]
    )
    def test_one_that_fails_leaves_a_finished_run_and_one_line_of_warning(
        self, federation, monkeypatch, caplog, drawing, error
    ):
        def fail(*arguments, **named):
            raise error

        monkeypatch.setattr(run_folder, drawing, fail)
        config = federation.config()
        results = finish(config, SiteGrid())
        assert read_results(Path(config.run.dir) / RESULTS_FILE) == results
        missing = {ROUNDS_FILE} if drawing == "draw_rounds" else {ROUNDS_FILE, ROC_FILE}
        assert names_in(config.run.dir) == set(WRITTEN) - missing
        lines = [record.getMessage() for record in caplog.records if "could not be drawn" in record.getMessage()]
        assert len(lines) == len(missing)
        for line, picture in zip(lines, (ROUNDS_FILE, ROC_FILE), strict=False):
            assert line == f"Left out {picture}, which could not be drawn: {' '.join(str(error).split())}"
        write_report(Path(config.run.dir))

    def test_an_interruption_between_results_and_pictures_is_a_finished_run(self, federation, monkeypatch):
        def interrupt(*arguments, **named):
            raise KeyboardInterrupt("power cut")

        monkeypatch.setattr(run_folder, "save_png", interrupt)
        config = federation.config()
        with pytest.raises(KeyboardInterrupt, match="power cut"):
            finish(config, SiteGrid())
        assert names_in(config.run.dir) == {CONFIG_FILE, MODEL_FILE, PUBLIC_FILE, PREDICTIONS_FILE, RESULTS_FILE}
        write_report(Path(config.run.dir))


class TestAbsentSite:
    def test_who_took_no_part_stands_in_results_report_and_display_with_the_reason(self, federation):
        config = federation.config("evaluation.privacy=none", "federation.node_ids=[11,12,13]", "training.num_rounds=2")
        grid = SiteGrid(refusals=[(1, 12), (2, 12)], reason="Expected <b>more</b> | patients.")
        console = Console(file=io.StringIO(), width=120)
        with RunFolder.open(config) as folder:
            results = folder.finish(train(config, grid))
        assert [(absent.site, absent.reason) for absent in results.absent] == [
            ("WFU", "Expected <b>more</b> | patients.")
        ]
        assert {site.site for site in results.sites} == {"MGH", "ISMD"}
        assert read_results(folder.path / RESULTS_FILE) == results
        write_report(folder.path)
        assert "took no part: Expected &lt;b&gt;more&lt;/b&gt; | patients." in (folder.path / REPORT_FILE).read_text()
        card = (folder.path / MODEL_CARD_FILE).read_text()
        assert "| WFU | took no part: Expected <b>more</b> / patients. | | | |" in card
        print_results(results, config, console)
        assert "WFU took no part: Expected <b>more</b> | patients.\n" in console.file.getvalue()


class TestInterruption:
    def test_results_are_written_before_pictures(self, federation, monkeypatch):
        written = []
        spy_on_writes(monkeypatch, lambda path: written.append(path.name))
        config = federation.config()
        finish(config, SiteGrid())
        assert written == WRITTEN

    @pytest.mark.parametrize("num_files", range(WRITTEN.index(RESULTS_FILE) + 1))
    def test_whatever_is_there_is_whole_and_the_run_can_be_finished(self, federation, num_files):
        config = federation.config()

        def interrupt(path):
            if path.name == WRITTEN[num_files]:
                raise KeyboardInterrupt("power cut")

        with pytest.MonkeyPatch.context() as monkeypatch:
            spy_on_writes(monkeypatch, interrupt)
            with pytest.raises(KeyboardInterrupt, match="power cut"):
                finish(config, SiteGrid())
        left = names_in(config.run.dir)
        # After training has begun there is a checkpoint to go on from.
        assert left == {*WRITTEN[:num_files], *([CHECKPOINT_FILE] if num_files else [])}
        grid = SiteGrid()
        results = finish(config, grid)
        assert min(grid.asked("train")) == (4 if num_files else 1)
        assert names_in(config.run.dir) == set(WRITTEN)
        assert np.isfinite(results.final.auroc)

    def test_with_results_the_checkpoint_may_stay_behind_without_harm(self, federation, monkeypatch):
        config = federation.config()

        def interrupt(path):
            raise KeyboardInterrupt("power cut")

        monkeypatch.setattr(run_folder, "remove_checkpoint", interrupt)
        with pytest.raises(KeyboardInterrupt, match="power cut"), RunFolder.open(config) as folder:
            folder.finish(train(config, SiteGrid()))
        assert read_results(folder.path / RESULTS_FILE).final.auroc is not None
        with pytest.raises(ConfigError, match="without the results of another run"):
            RunFolder.open(config)
