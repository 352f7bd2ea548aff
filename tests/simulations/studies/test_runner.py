"""Runs in processes of their own: the same rows, and an orderly end of whatever goes wrong."""

import dataclasses
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

SECONDS = 120
ROOT = Path(__file__).parents[3]


@pytest.fixture
def job(smoke, tmp_path):
    """Make a job with a folder of its own."""

    def make(name, *more):
        fixed = ("privacy.noise=seeded",) if "privacy=off" not in more else ()
        return Job(name=name, config=compose(smoke.overrides(tmp_path / name, *fixed, *more)))

    return make


def elsewhere(job, folder):
    """Return the same run in another folder."""
    run = dataclasses.replace(job.config.run, dir=str(folder / job.name))
    return dataclasses.replace(job, config=dataclasses.replace(job.config, run=run))


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


@pytest.mark.slow
def test_rows_do_not_depend_on_the_number_of_processes(job, tmp_path):
    jobs = [job("a"), job("b", "privacy.target_epsilon=2"), job("c", "seed=1", "phantom.num_patients=null")]
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
class TestFailure:
    def test_of_a_run_is_named_and_stops_the_others(self, job, tmp_path):
        (tmp_path / "file").touch()
        finished, bad = job("finished", "privacy=off"), job("bad", f"run.dir={tmp_path}/file/run")
        endless = job("endless", "privacy=off", "training.num_rounds=100000")
        assert run([finished], 2) == ["finished"]
        done = []
        expected = rf"^bad: Expected run\.dir=.* To run it anew, remove {re.escape(str(bad.folder))}\.$"
        with pytest.raises(ConfigError, match=expected):
            run_jobs([bad, finished, endless], num_workers=2, on_start=lambda _: None, on_done=done.append)
        assert done == [finished]
        assert finished.is_finished
        assert not endless.is_finished
        assert not multiprocessing.active_children()

    def test_that_nobody_expected_keeps_its_traceback(self, job):
        with pytest.raises(ValueError, match="null byte") as caught:
            run([job("good"), Job(name="bad", config=elsewhere(job("bad"), Path("\0")).config)], 2)
        assert "in simulate" in str(caught.value.__cause__)

    def test_of_a_process_is_one_line_and_the_others_go_on(self, job):
        jobs = [job(name, "privacy=off", "training.num_rounds=40") for name in ("a", "b")]

        def kill():
            wait_for(lambda: all((one.folder / "checkpoint.safetensors").exists() for one in jobs), "two rounds")
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(FederatedMammographyError, match=r"that of (a or b|b or a) was killed.* goes on"):
            run(jobs, 2)
        killer.join()
        assert not multiprocessing.active_children()
        assert not any(one.is_finished for one in jobs)
        assert sorted(run(jobs, 2)) == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False], ids=["to the group", "to the parent"])
def test_an_interrupt_leaves_no_process_and_no_budget_spent_in_vain(smoke, tmp_path, to_all):
    fixed = ("preset=smoke", f"data.root={smoke.root}", f"data.cache_dir={smoke.cache}", "training.num_rounds=20")
    arguments = ["study", "cross-validation", *fixed, "--folds", "2", "--out", str(tmp_path), "--workers", "2"]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", "simulations.commands", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with process:
        wait_for(lambda: len(list(tmp_path.glob("*/*/checkpoint.safetensors"))) == 2, "two rounds")
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert said.splitlines() == ["interrupted; the same command goes on where this one stopped"]
    wait_for(lambda: not is_group(process.pid), "the end of the last process")
    for path in tmp_path.rglob("*.sqlite"):
        entries = [entry.content for entry in read_history(path).entries]
        assert count(entries, Reserved) == count(entries, Committed) > 0
    assert not list(tmp_path.rglob("results.json"))
    assert main(arguments) == 0


def count(entries, kind):
    return sum(isinstance(entry, kind) for entry in entries)


def is_group(number):
    """Return whether there is a process in the group."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_what_is_finished_is_not_run_again(smoke, monkeypatch):
    monkeypatch.setattr(study_runner, "simulate", None)
    finished = Job(name="first", config=compose(smoke.overrides(smoke.first)))
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
