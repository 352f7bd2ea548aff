"""The privacy report of a site whose process was killed while it wrote: whole, and without touching a file."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from client.privacy.ledger_database import read_history
from simulations.commands.app import main

ROOT = Path(__file__).parents[3]
WRITER = """
import pathlib, sys, time
from client.privacy import ledger_database as database
connection = database.connect(pathlib.Path(sys.argv[1]), mode="rw")
connection.execute("PRAGMA cache_size = 1")
database.begin(connection)
connection.execute("DELETE FROM members")
connection.execute("DELETE FROM entries")
# Small caches spill: changed pages reach the file before the commit, and the journal has the old ones.
connection.executemany("INSERT INTO replies VALUES (?, zeroblob(5000))", [(number,) for number in range(100, 200)])
print("writing", flush=True)
time.sleep(600)
"""


def kill_while_writing(ledger):
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", WRITER, str(ledger)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def state_of(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


def test_it_is_read_and_nothing_is_written(begun, tmp_path):
    assert not begun.ask().has_error()
    whole = read_history(begun.site.ledger)
    before = begun.site.ledger.read_bytes()
    kill_while_writing(begun.site.ledger)
    # The file itself is half-way: what stands in it is no ledger.
    assert begun.site.ledger.read_bytes() != before
    crashed = state_of(begun.folder)
    assert read_history(begun.site.ledger) == whole
    out = tmp_path / "reports" / "report.json"
    out.parent.mkdir()
    assert main(["site", "privacy-report", "--out", str(out)]) == 0
    assert state_of(begun.folder) == crashed
    report = json.loads(out.read_text())
    assert report["problem"] is None
    assert report["cohorts"]
