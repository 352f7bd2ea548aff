"""How far a run has come, from the files that a real run leaves, whole and damaged."""

import pytest

from server.app import AUDIT_FILE
from server.deployment.kit import ServerKit
from server.deployment.progress import Progress, read_progress, run_folder_of, write_run_folder
from shared_model.errors import ConfigError
from shared_model.system.audit_log import AuditLog

CONFIG = "training: {num_rounds: 20}\nprivacy: {mode: patient, target_epsilon: 8.0}\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    log = AuditLog(tmp_path / AUDIT_FILE)
    log.record("begun", config="0" * 64)
    log.record("round", round=1, sites=3, epsilon=1.5)
    log.record("round", round=2, sites=2, epsilon=2.0)
    return tmp_path


def progress(**changes):
    values = {"server_round": 2, "num_rounds": 20, "num_sites": 2, "epsilon": 2.0, "target_epsilon": 8.0}
    return Progress(**(values | changes))


def test_the_last_round_counts(folder):
    assert read_progress(folder) == progress()


def test_a_round_that_was_repeated_after_a_kill_is_no_step_back(folder):
    log = AuditLog(folder / AUDIT_FILE)
    log.record("begun", config="0" * 64)
    assert read_progress(folder) == progress()


def test_a_run_that_has_only_begun(tmp_path):
    assert read_progress(tmp_path) is None
    AuditLog(tmp_path / AUDIT_FILE).record("begun", config="0" * 64)
    assert read_progress(tmp_path) == progress(
        server_round=0, num_rounds=None, num_sites=None, epsilon=None, target_epsilon=None
    )


def test_without_privacy_there_is_no_target(folder):
    (folder / "config.yaml").write_text(CONFIG.replace("patient", "'off'"))
    assert read_progress(folder) == progress(target_epsilon=None)


@pytest.mark.parametrize("text", ["", "- 1", "{", "training: 3", "\x00"])
def test_a_damaged_configuration_is_unknown(folder, text):
    (folder / "config.yaml").write_text(text)
    assert read_progress(folder) == progress(num_rounds=None, target_epsilon=None)


def test_a_damaged_log_is_no_progress(folder):
    log = folder / AUDIT_FILE
    log.write_text(log.read_text().replace("2.0", "0.2"))
    assert read_progress(folder) is None


class TestRunFolder:
    @pytest.fixture
    def kit(self, tmp_path):
        (tmp_path / "server.yaml").write_text("{hosts: [localhost], port: 9092, sites: [mgh]}")
        return ServerKit.load(tmp_path)

    def test_is_found_again_whatever_it_is_called(self, kit, tmp_path):
        folder = tmp_path / 'Jörg (study), "a" [b]'
        write_run_folder(kit, "42", folder)
        assert run_folder_of(kit, "42") == folder

    @pytest.mark.parametrize("run_id", ["43", "../42", "", "x", "\uff14\uff12"])
    def test_of_another_run_is_an_error(self, kit, run_id):
        with pytest.raises(ConfigError, match="Expected "):
            run_folder_of(kit, run_id)

    def test_a_damaged_file_is_an_error(self, kit):
        path = kit.run_folder_path("42")
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        with pytest.raises(ConfigError, match="Expected run 42 to be one of this kit"):
            run_folder_of(kit, "42")
