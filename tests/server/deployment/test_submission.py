"""A run from its submission to its results; the SuperLink is a function of the test's own."""

import io
import json
import shutil

import pytest
from rich.console import Console

from server.deployment import submission
from server.deployment.kit import ServerKit
from server.deployment.submission import complete_overrides, submit_and_follow, submitted_overrides
from server.report.run_folder import LOCK_FILE
from server.results.document import RESULTS_FILE, read_results
from shared_model.config.overrides import override
from shared_model.errors import ConfigError, RoundError
from shared_model.system.process_lock import ProcessLock
from simulations.commands.app import main


@pytest.fixture
def kit(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "server.yaml").write_text("{host: localhost, port: 9092, sites: [mgh, wfu]}")
    made = ServerKit.load(folder)
    made.write_node_ids({"wfu": 2**64 - 1, "mgh": 7})
    return made


@pytest.fixture
def submitted(monkeypatch):
    """What was submitted: one list of overrides a run."""
    found = []

    def submit_run(_kit, overrides):
        found.append(list(overrides))
        return "42"

    monkeypatch.setattr(submission, "submit_run", submit_run)
    return found


@pytest.fixture
def finishes(monkeypatch, smoke):
    """Every run ends with the results and files of another."""

    def follow(_kit, run_id, config, _display):
        assert run_id == "42"
        shutil.copytree(smoke.first, config.run.dir, dirs_exist_ok=True)
        return read_results(smoke.first / RESULTS_FILE)

    monkeypatch.setattr(submission, "follow", follow)


def test_sites_and_their_nodes_come_from_the_kit_and_the_folder_is_absolute(kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["preset=smoke", "run.dir=here"]
    assert complete_overrides(given, kit) == [
        *given,
        "federation.sites=[mgh,wfu]",
        f"federation.node_ids=[7,{2**64 - 1}]",
        override("run.dir", str(tmp_path / "here")),
    ]


def test_a_site_that_is_not_enrolled_stops_the_run(kit):
    kit.write_node_ids({"mgh": 7})
    with pytest.raises(ConfigError, match="Expected all sites to be enrolled; is fedmammo server start running"):
        complete_overrides(["preset=smoke"], kit)


@pytest.mark.slow
def test_a_run_ends_with_its_report_and_can_be_found_again(kit, tmp_path, submitted, finishes):
    overrides, shown = ["preset=smoke", f"run.dir={tmp_path / 'run'}"], io.StringIO()
    submit_and_follow(kit, overrides, Console(file=shown, width=200))
    assert submitted == [overrides]
    assert submitted_overrides(tmp_path / "run") == overrides
    assert f"Run 42 in {tmp_path / 'run'}" in shown.getvalue()
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_results_of_another_run_are_not_overwritten(kit, smoke, tmp_path, submitted):
    shutil.copytree(smoke.first, tmp_path / "run")
    with pytest.raises(ConfigError, match="without the results of another run; name a new folder"):
        submit_and_follow(kit, ["preset=smoke", f"run.dir={tmp_path / 'run'}"], Console(quiet=True))
    assert submitted == []


def test_a_run_that_goes_on_is_not_submitted_again(kit, tmp_path, submitted):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "overrides.json").write_text("[]")
    lock = ProcessLock.take(folder / LOCK_FILE)
    with pytest.raises(ConfigError, match=r"Expected one process at a time in .*/run: process \d+ on .* since"):
        submit_and_follow(kit, ["preset=smoke", f"run.dir={folder}"], Console(quiet=True))
    lock.release()
    assert submitted == []
    assert submitted_overrides(folder) == []


def test_a_run_that_fails_leaves_what_resumes_it(kit, tmp_path, submitted, monkeypatch):
    def follow(*_):
        raise RoundError("Expected at least 2 valid replies.")

    monkeypatch.setattr(submission, "follow", follow)
    overrides = ["preset=smoke", f"run.dir={tmp_path / 'run'}"]
    with pytest.raises(RoundError, match="Expected at least 2"):
        submit_and_follow(kit, overrides, Console(quiet=True))
    assert submitted_overrides(tmp_path / "run") == overrides


@pytest.mark.parametrize("content", [None, "{", ""])
def test_a_folder_without_a_run_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "overrides.json").write_text(content)
    with pytest.raises(ConfigError, match="Expected a run of fedmammo server run in"):
        submitted_overrides(tmp_path)


@pytest.mark.parametrize("command", ["run", "resume"])
def test_an_interrupt_leaves_the_run_alone_and_says_so(kit, tmp_path, submitted, monkeypatch, capsys, command):
    def follow(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(submission, "follow", follow)
    overrides = ["preset=smoke", f"run.dir={tmp_path / 'run'}"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "overrides.json").write_text(json.dumps(overrides))
    arguments = overrides if command == "run" else [str(tmp_path / "run")]
    assert main(["server", command, "--kit", str(kit.folder), *arguments]) == 130
    assert len(submitted) == 1
    assert capsys.readouterr().err.splitlines() == ["no longer followed; the run goes on: fedmammo server status"]
