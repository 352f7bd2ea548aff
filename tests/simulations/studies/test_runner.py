"""Runs in processes of their own: the same rows, and an orderly end of whatever goes wrong.

A test that must not come too late holds the lock of one site's ledger: the site waits for it within the first round, so
that the run can neither finish nor spend anything more.
"""

import contextlib
import dataclasses
import fcntl
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Committed, Reserved
from shared_model.config.composition import compose
from shared_model.errors import ConfigError, FederatedMammographyError
from simulations.commands.app import main
from simulations.studies import runner as study_runner
from simulations.studies.jobs import Job
from simulations.studies.results import read_rows
from simulations.studies.runner import default_workers, run_jobs

SECONDS = 600
"""How long anything is waited for; only a test that fails takes so long."""
NO_DEADLINE = f"federation.round_timeout_seconds={SECONDS}"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def job(clinical_phantom, tmp_path):
    """Make a job with a folder of its own."""

    def make(name, *more):
        fixed = ("privacy.noise=seeded",) if "privacy=off" not in more else ()
        overrides = clinical_phantom.overrides(tmp_path / name, NO_DEADLINE, *fixed, *more)
        return Job(name=name, config=compose(overrides))

    return make


def elsewhere(job, folder):
    """Return the same run in another folder."""
    run = dataclasses.replace(job.config.run, dir=str(folder / job.name))
    federation = dataclasses.replace(job.config.federation, ledger_dir=f"{run.dir}/ledgers")
    return dataclasses.replace(job, config=dataclasses.replace(job.config, run=run, federation=federation))


def run(jobs, num_workers):
    """Run the jobs and return the names of those that are done."""
    done = []
    run_jobs(jobs, num_workers=num_workers, on_start=lambda _: None, on_done=lambda job: done.append(job.name))
    return done


def wait_for(condition, what):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


@contextlib.contextmanager
def held(*run_folders, parent=None):
    """Hold the runs in these folders within their first round, until all processes that run them are told to stop.

    These are processes of ``parent``, or of this one.
    """
    with contextlib.ExitStack() as locks, contextlib.ExitStack() as watching:
        for folder in run_folders:
            lock = folder / "ledgers" / "MGH" / "ledger.sqlite.lock"
            lock.parent.mkdir(parents=True)
            fcntl.flock(locks.enter_context(lock.open("wb")), fcntl.LOCK_EX)
        is_over = threading.Event()
        watcher = threading.Thread(target=release_when_told, args=(locks, parent or os.getpid, is_over))
        watcher.start()
        watching.callback(watcher.join)
        watching.callback(is_over.set)
        yield


def release_when_told(locks, parent, is_over):
    had_workers = False
    while not is_over.wait(0.05):
        workers = workers_of(parent())
        had_workers = had_workers or bool(workers)
        if had_workers and all(map(ignores_sigterm, workers)):
            locks.close()
            return


def workers_of(pid):
    """Return the processes in which ``pid`` runs jobs."""
    children = read_process(pid, f"task/{pid}/children").split()
    return [child for child in children if "spawn_main" in read_process(child, "cmdline")]


def ignores_sigterm(pid):
    """Return whether a process has been told to stop: from then on it ignores that it is told again. Or it is gone."""
    ignored = [line.split()[1] for line in read_process(pid, "status").splitlines() if line.startswith("SigIgn:")]
    return not ignored or bool(int(ignored[0], 16) >> (signal.SIGTERM - 1) & 1)


def read_process(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def is_under_way(run_folder):
    """Return whether another site than the one that is held up has begun its ledger."""
    return (run_folder / "ledgers" / "WFU" / "ledger.sqlite").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pictures")
def test_rows_do_not_depend_on_the_number_of_processes(job, tmp_path):
    jobs = [job("a"), job("b", "privacy.target_epsilon=2"), job("c", "seed=1")]
    assert run(jobs, 1) == ["a", "b", "c"]
    others = [elsewhere(one, tmp_path / "other") for one in jobs]
    assert sorted(run(others, 2)) == ["a", "b", "c"]
    rows = read_rows(jobs)
    assert read_rows(others) == rows
    assert [(row.run, row.seed, row.epsilon) for row in rows] == [("a", 0, 8), ("b", 0, 2), ("c", 1, 8)]
    # Only the second of the same seed has something to be compared with.
    assert [row.against_first is None for row in rows] == [True, False, True]
    for one, other in zip(jobs, others, strict=True):
        assert (one.folder / "model.safetensors").read_bytes() == (other.folder / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pictures")
class TestFailure:
    def test_of_a_run_is_named_and_stops_the_others(self, job, tmp_path):
        (tmp_path / "file").touch()
        finished, bad, endless = job("finished"), job("bad", f"run.dir={tmp_path}/file/run"), job("endless")
        finished.folder.mkdir()
        (finished.folder / "results.json").touch()
        done = []
        expected = rf"^bad: Expected run\.dir=.* To run it anew, remove {re.escape(str(bad.folder))}\.$"
        with held(endless.folder), pytest.raises(ConfigError, match=expected):
            run_jobs([bad, finished, endless], num_workers=2, on_start=lambda _: None, on_done=done.append)
        assert done == [finished]
        assert not endless.is_finished
        assert not multiprocessing.active_children()

    def test_that_nobody_expected_keeps_its_traceback(self, job):
        good = job("good")
        with held(good.folder), pytest.raises(ValueError, match="null byte") as caught:
            run([good, Job(name="bad", config=elsewhere(job("bad"), Path("\0")).config)], 2)
        assert "in simulate" in str(caught.value.__cause__)

    def test_of_a_process_is_one_line_and_the_others_go_on(self, job):
        jobs = [job(name) for name in ("a", "b")]

        def kill():
            wait_for(lambda: all(is_under_way(one.folder) for one in jobs), "both runs")
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        expected = r"that of (a or b|b or a) was killed.* goes on"
        with held(*(one.folder for one in jobs)), pytest.raises(FederatedMammographyError, match=expected):
            run(jobs, 2)
        killer.join()
        assert not multiprocessing.active_children()
        assert not any(one.is_finished for one in jobs)
        assert run(jobs, 1) == ["a", "b"]
        # Both were cut off within a round, and their noise is the same.
        first, second = ((one.folder / "model.safetensors").read_bytes() for one in jobs)
        assert first == second


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("to_all", [True, False], ids=["to the group", "to the parent"])
def test_an_interrupt_leaves_no_process_and_no_budget_spent_in_vain(clinical_phantom, tmp_path, to_all):
    fixed = clinical_phantom.overrides(Path("unused"), NO_DEADLINE)
    fixed.remove("run.dir=unused")
    arguments = ["study", "cross-validation", *fixed, "--folds", "2", "--out", str(tmp_path)]
    folders = [tmp_path / "seed-0" / f"fold-{number}" for number in (1, 2)]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", "simulations.commands", *arguments, "--workers", "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # What started the tests may ignore Ctrl-C, and its children then would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509, one system call and no lock
    )
    # When the runs are told to stop, a site of each is within its round, which it then finishes.
    with process, held(*folders, parent=lambda: process.pid):
        wait_for(lambda: all(map(is_under_way, folders)), "both runs")
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert said.splitlines() == ["interrupted; the same command goes on where this one stopped"]
    wait_for(lambda: not is_group(process.pid), "the end of the last process")
    ledgers = list(tmp_path.rglob("*.sqlite"))
    assert {path.parents[2].name for path in ledgers if path.parent.name == "MGH"} == {"fold-1", "fold-2"}
    for path in ledgers:
        entries = [entry.content for entry in read_history(path).entries]
        assert count(entries, Reserved) == count(entries, Committed) > 0
    assert not list(tmp_path.rglob("results.json"))
    assert main([*arguments, "--workers", "1"]) == 0


def count(entries, kind):
    return sum(isinstance(entry, kind) for entry in entries)


def is_group(number):
    """Return whether there is a process in the group."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_is_finished_is_not_run_again(job, monkeypatch):
    monkeypatch.setattr(study_runner, "simulate", None)
    finished = job("first")
    finished.folder.mkdir()
    (finished.folder / "results.json").touch()
    assert run([finished], 2) == ["first"]


@pytest.mark.parametrize(("num_cores", "expected"), [(None, 1), (1, 1), (2, 2), (64, 2)])
def test_two_processes_unless_there_is_one_core(monkeypatch, num_cores, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: num_cores)
    assert default_workers() == expected


def test_a_callers_mistakes_are_refused():
    config = compose(["preset=smoke", "run.dir=same"])
    with pytest.raises(ValueError, match=r"num_workers=0 >= 1"):
        run([], 0)
    with pytest.raises(ValueError, match=r"a folder of its own"):
        run([Job(name="a", config=config), Job(name="b", config=config)], 1)
