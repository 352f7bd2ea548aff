"""Simulations that are killed (SIGKILL) at any point: they go on, at no cost, with what they would have sent."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import server.report.run_display
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Committed, Reserved
from server.results.document import read_results
from shared_model.system.process_lock import ProcessLock
from simulations.run import main

ROOT = Path(__file__).parents[2]
KILLED = """
import hashlib, os, signal, sys
from pathlib import Path
import server.federation.rounds, server.report.run_folder
from client.privacy.ledger import Ledger
from simulations.run import main

point, number, record = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
count = 0

def reach(here):
    global count
    count += here == point
    if here == point and count == number:
        os.kill(os.getpid(), signal.SIGKILL)

def reserve(ledger, *arguments, **options):
    granted = originals["reserve"](ledger, *arguments, **options)
    reach("reserved")
    return granted

def commit(ledger, reservation, reply):
    with record.open("a") as file:
        file.write(f"{ledger.path.parent.name} {reservation.sequence} {hashlib.sha256(reply).hexdigest()}\\n")
    reach("computed")
    originals["commit"](ledger, reservation, reply)
    reach("committed")

def before(here, original):
    def call(*arguments):
        reach(here)
        return original(*arguments)
    return call

originals = {name: getattr(Ledger, name) for name in ("reserve", "commit")}
Ledger.reserve, Ledger.commit = reserve, commit
rounds, run_folder = server.federation.rounds, server.report.run_folder
rounds.write_checkpoint = before("aggregated", rounds.write_checkpoint)
run_folder.write_results = before("finished", run_folder.write_results)
sys.exit(main(sys.argv[4:]))
"""
"""Runs a simulation that kills itself when it comes to a point for the n-th time; every reply is recorded before."""
POINTS = {
    # In rounds 1, 1, 1, 1 and 3 of three, each from where the one before was killed, and after the last.
    "seeded": [("reserved", 1), ("computed", 2), ("committed", 1), ("aggregated", 1), ("computed", 4), ("finished", 1)],
    # What secret noise adds, that a reply is computed again bit by bit, shows at two.
    "secure": [("computed", 2), ("finished", 1)],
}
"""Where a run is killed, one time after the other; a process takes its time to begin."""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_pictures")]


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)  # noqa: S603


@pytest.mark.parametrize("noise", list(POINTS))
def test_a_run_that_is_killed_again_and_again_sends_what_it_would_have_sent(clinical_phantom, tmp_path, noise):
    folder, record = tmp_path / "killed", tmp_path / "replies"
    overrides = clinical_phantom.overrides(folder, f"privacy.noise={noise}")
    for point, number in POINTS[noise]:
        killed = start("-c", KILLED, point, str(number), str(record), *overrides)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (folder / "results.json").exists()
    assert main(overrides) == 0
    digests = {}
    for line in record.read_text().splitlines():
        site, sequence, digest = line.split()
        digests.setdefault((site, sequence), []).append(digest)
    # Three updates and a histogram of every site, some computed more than once and always alike.
    assert len(digests) == 3 * (3 + 1)
    assert all(len(set(found)) == 1 for found in digests.values())
    assert any(len(found) > 1 for found in digests.values())
    for path in (folder / "ledgers").glob("*/ledger.sqlite"):
        contents = [type(entry.content) for entry in read_history(path).entries]
        assert contents.count(Reserved) == contents.count(Committed) == 4
    results = read_results(folder / "results.json")
    assert [entry.warnings for entry in results.rounds] == [()] * 3
    assert all(7.9 < site.epsilon <= 8.0 for site in results.sites)
    if noise == "seeded":
        whole = tmp_path / "whole"
        assert main(clinical_phantom.overrides(whole, "privacy.noise=seeded")) == 0
        assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_ledger_that_was_put_back_is_told_and_its_update_is_not_used(clinical_phantom, tmp_path, monkeypatch):
    folder, old = tmp_path / "run", tmp_path / "old"
    overrides, on_round = clinical_phantom.overrides(folder), server.report.run_display.RunDisplay.on_round

    def stop_after_two(display, result):
        on_round(display, result)
        if result.round == 1:
            shutil.copytree(folder / "ledgers", old)
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(server.report.run_display.RunDisplay, "on_round", stop_after_two)
    assert main(overrides) == 130
    shutil.copytree(old / "WFU", folder / "ledgers" / "WFU", dirs_exist_ok=True)
    # A process of its own: one that goes on notices by itself that its ledger was replaced.
    resumed = start("-m", "simulations.run", *overrides)
    assert resumed.returncode == 0, resumed.stderr
    warning = "the ledger of WFU does not continue from what it showed before: it was restored or copied"
    assert f"warning: {warning}" in resumed.stdout.splitlines()
    last = read_results(folder / "results.json").rounds[2]
    assert (last.num_sites, last.failures, last.warnings) == (2, 1, (warning,))
    assert "Expected site WFU to name a price of the run" in resumed.stderr
    assert f"In round 3 {warning}" in (folder / "report.html").read_text()


def test_a_folder_in_use_is_refused_and_a_killed_run_leaves_it_free(clinical_phantom, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    lock = ProcessLock.take(folder / "run.lock")
    assert main(clinical_phantom.overrides(folder)) == 1
    assert f"Expected one process at a time in {folder}: process {os.getpid()} on" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["run.lock"]
    lock.release()
    (folder / "run.lock").write_text("process 1 on some machine since some time\n")
    assert main(clinical_phantom.overrides(folder)) == 0
    assert not (folder / "run.lock").exists()
