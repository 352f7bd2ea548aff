"""A network with nobody else in it, and that nothing which runs there stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulations.day import loopback
from simulations.federation.rehearsal import environment

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.skipif(bool(loopback.missing()), reason=loopback.missing() or "nothing"),
]
INSIDE = "import sys; from simulations.day import loopback; sys.exit(0 if loopback.is_alone() else 7)"
OUTSIDE = "import sys; from simulations.day.loopback import run_alone; sys.exit(run_alone(sys.argv[1:]))"


def outside(*command):
    return [sys.executable, "-P", "-c", OUTSIDE, *command]


def is_running(marker):
    found = (entry.read_bytes() for entry in Path("/proc").glob("[0-9]*/cmdline") if os.access(entry, os.R_OK))
    return any(marker.encode() in words and b"run_alone" not in words for words in found)


def wait_until(is_so):
    for _ in range(3000):
        if is_so():
            return
        time.sleep(0.1)
    pytest.fail("it never came to that")


def test_inside_there_is_loopback_alone_and_the_status_comes_out():
    inside = [sys.executable, "-P", "-c", INSIDE]
    assert subprocess.run(outside(*inside), env=environment(), check=False).returncode == 0  # noqa: S603, our own
    assert subprocess.run(outside("sh", "-c", "exit 5"), env=environment(), check=False).returncode == 5  # noqa: S603


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_command_ends_all_that_it_started(tmp_path, number):
    started = tmp_path / "started"
    # A grandchild that asks to be left alone.
    script = f"trap '' TERM INT; (trap '' TERM INT; touch {started}; while :; do sleep 1; done) & wait"
    process = subprocess.Popen(outside("sh", "-c", script), env=environment(), stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        wait_until(started.exists)
        assert is_running(str(started))
    finally:
        os.kill(process.pid, number)
        process.wait()
    wait_until(lambda: not is_running(str(started)))
