"""A run from its submission to its results; the SuperLink is a function of the test's own."""

import dataclasses
import io
import shutil
from types import SimpleNamespace

import pytest
from rich.console import Console

from server.deployment import submission
from server.deployment.bundle import bundle_digest
from server.deployment.control import FlowerRun
from server.deployment.kit import ServerKit
from server.deployment.progress import write_run_folder
from server.deployment.submission import (
    Submission,
    complete_overrides,
    follow_to_report,
    read_submission,
    submit_and_follow,
)
from server.report.run_folder import LOCK_FILE
from server.results.document import RESULTS_FILE, read_results
from shared_model.config.overrides import override
from shared_model.errors import ConfigError, RoundError
from shared_model.system.documents import to_json
from shared_model.system.process_lock import ProcessLock
from simulations.commands.app import main


@pytest.fixture
def kit(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "server.yaml").write_text("{hosts: [localhost], port: 9092, sites: [mgh, wfu]}")
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
    monkeypatch.setattr(submission, "list_runs", lambda _kit: [])
    return found


def flower_run(run_id, status):
    return FlowerRun(run_id=run_id, status=status, details="", submitted="2026-01-01T00:00:00+00:00")


@pytest.fixture
def finishes(monkeypatch, smoke):
    """Every run ends with the results and files of another."""

    def follow(_kit, run_id, config, _display):
        assert run_id == "42"
        shutil.copytree(smoke.first, config.run.dir, dirs_exist_ok=True)
        return read_results(smoke.first / RESULTS_FILE)

    monkeypatch.setattr(submission, "follow", follow)


BEFORE = Submission(overrides=("preset=smoke",), run_id="41")


def write_submission(folder, **changes):
    (folder / "submission.json").write_text(to_json(dataclasses.replace(BEFORE, **changes)))


def test_sites_and_their_nodes_come_from_the_kit_and_the_folder_is_absolute(kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["preset=smoke", "run.dir=here"]
    assert complete_overrides(given, kit) == [
        *given,
        "federation.sites=[mgh,wfu]",
        f"federation.node_ids=[7,{2**64 - 1}]",
        override("run.dir", str(tmp_path / "here")),
    ]


def test_a_file_of_numbers_is_named_as_the_process_of_the_run_finds_it(kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["preset=few_patients", "data.root=.", "model.constants_file=numbers.safetensors"]
    assert override("model.constants_file", str(tmp_path / "numbers.safetensors")) in complete_overrides(given, kit)


def test_a_file_of_numbers_that_does_not_do_is_refused_before_it_is_submitted(kit, tmp_path, submitted):
    given = ["preset=few_patients", "data.root=.", f"run.dir={tmp_path / 'run'}", "model.constants_file=/no/such"]
    with pytest.raises(ConfigError, match="Expected numbers of public lesions in /no/such: there is no such file"):
        submit_and_follow(kit, given, Console(quiet=True))
    assert submitted == []


@pytest.mark.parametrize("text", ["preset=${oc.env:HOME}", "hydra.run.dir=x", "+more=1", "preset=../file"])
def test_what_the_run_would_refuse_is_refused_before_it_is_submitted(kit, text):
    with pytest.raises(ConfigError, match="Expected "):
        complete_overrides(["preset=smoke", text], kit)


def test_a_site_that_is_not_enrolled_stops_the_run(kit):
    kit.write_node_ids({"mgh": 7})
    with pytest.raises(ConfigError, match="Expected all sites to be enrolled, wfu are not; is fedmammo server start"):
        complete_overrides(["preset=smoke"], kit)


@pytest.mark.slow
def test_a_run_ends_with_its_report_and_can_be_found_again(kit, tmp_path, submitted, finishes):
    overrides, shown = ["preset=smoke", f"run.dir={tmp_path / 'run'}"], io.StringIO()
    submit_and_follow(kit, overrides, Console(file=shown, width=200))
    assert submitted == [overrides]
    assert list(read_submission(tmp_path / "run").overrides) == overrides
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
    write_submission(folder)
    lock = ProcessLock.take(folder / LOCK_FILE)
    with pytest.raises(ConfigError, match=r"Expected one process at a time in .*/run: process \d+ on .* since"):
        submit_and_follow(kit, ["preset=smoke", f"run.dir={folder}"], Console(quiet=True))
    lock.release()
    assert submitted == []
    assert read_submission(folder) == BEFORE


def test_a_run_that_fails_leaves_what_resumes_it(kit, tmp_path, submitted, monkeypatch):
    def follow(*_):
        raise RoundError("Expected at least 2 valid replies.")

    monkeypatch.setattr(submission, "follow", follow)
    overrides = ["preset=smoke", f"run.dir={tmp_path / 'run'}"]
    with pytest.raises(RoundError, match="Expected at least 2"):
        submit_and_follow(kit, overrides, Console(quiet=True))
    assert list(read_submission(tmp_path / "run").overrides) == overrides


@pytest.mark.parametrize("content", [None, "{", "", "[]", '{"overrides": "x", "run_id": null}'])
def test_a_folder_without_a_run_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "submission.json").write_text(content)
    with pytest.raises(ConfigError, match="Expected a run of fedmammo server run in"):
        read_submission(tmp_path)


@pytest.mark.parametrize("status", ["pending", "starting", "running"])
def test_a_run_that_waits_to_begin_is_not_submitted_again(kit, tmp_path, submitted, monkeypatch, status):
    folder = tmp_path / "run"
    folder.mkdir()
    write_submission(folder)
    runs = [flower_run("40", "finished:failed"), flower_run("41", status)]
    monkeypatch.setattr(submission, "list_runs", lambda _kit: runs)
    with pytest.raises(ConfigError, match=r"Expected run 41 in .*/run to have ended; fedmammo server follow .*/run"):
        submit_and_follow(kit, ["preset=smoke", f"run.dir={folder}"], Console(quiet=True))
    assert submitted == []


def test_code_that_the_sites_have_not_approved_is_not_submitted(kit, tmp_path, submitted):
    other = dataclasses.replace(kit, bundle="0" * 64)
    with pytest.raises(
        ConfigError, match=rf"bundle {'0' * 64}; this installation makes {bundle_digest()}, which sites"
    ):
        submit_and_follow(other, ["preset=smoke", f"run.dir={tmp_path / 'run'}"], Console(quiet=True))
    assert submitted == []
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("submitted", "finishes")
@pytest.mark.parametrize("by", ["folder", "number"])
def test_a_run_is_followed_by_its_folder_and_by_its_number(kit, tmp_path, smoke, by, capsys):
    folder = tmp_path / "run"
    shutil.copytree(smoke.first, folder)
    write_submission(folder, run_id="42")
    write_run_folder(kit, "42", folder)
    assert main(["server", "follow", "--kit", str(kit.folder), str(folder) if by == "folder" else "42"]) == 0
    assert "Federated result" in capsys.readouterr().out


@pytest.mark.slow
def test_a_report_that_nobody_wrote_is_written_once_the_run_has_ended(kit, tmp_path, smoke, monkeypatch):
    folder, asked = tmp_path / "run", []
    folder.mkdir()
    write_submission(folder, run_id="42", overrides=["preset=smoke", f"run.dir={folder}"])

    def list_runs(_kit):
        assert not (folder / "report.html").exists()
        asked.append(True)
        return [flower_run("42", "running" if len(asked) < 3 else "finished:failed")]

    monkeypatch.setattr(submission, "list_runs", list_runs)
    monkeypatch.setattr(submission, "time", SimpleNamespace(sleep=lambda _: None))

    def follow(_kit, _run_id, config, _display):
        shutil.copytree(smoke.first, config.run.dir, dirs_exist_ok=True, ignore=shutil.ignore_patterns("report.html"))
        return read_results(smoke.first / RESULTS_FILE)

    monkeypatch.setattr(submission, "follow", follow)
    follow_to_report(kit, folder, Console(quiet=True))
    assert len(asked) == 3
    assert (folder / "report.html").exists()


@pytest.mark.parametrize("run", ["43", "no such folder", "../x"])
def test_a_run_that_nobody_knows(kit, run, capsys):
    assert main(["server", "follow", "--kit", str(kit.folder), run]) == 1
    assert capsys.readouterr().err.startswith("error: Expected ")


@pytest.mark.parametrize("command", ["run", "resume"])
def test_an_interrupt_leaves_the_run_alone_and_says_so(kit, tmp_path, submitted, monkeypatch, capsys, command):
    def follow(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(submission, "follow", follow)
    overrides = ["preset=smoke", f"run.dir={tmp_path / 'run'}"]
    (tmp_path / "run").mkdir()
    write_submission(tmp_path / "run", overrides=overrides)
    arguments = overrides if command == "run" else [str(tmp_path / "run")]
    assert main(["server", command, "--kit", str(kit.folder), *arguments]) == 130
    assert len(submitted) == 1
    assert capsys.readouterr().err.splitlines() == ["no longer followed; the run goes on: fedmammo server status"]
