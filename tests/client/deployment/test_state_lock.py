"""Two processes never work for one site: the second is told who the first is."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from client.deployment.state_lock import state_locked
from shared_model.errors import ConfigError

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys, time, pathlib
from client.deployment.state_lock import state_locked
with state_locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", HOLDER, str(tmp_path / "state")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_the_second_process_is_told_who_the_first_is(tmp_path, holder):
    expected = rf"Expected one process for this site: process {holder.pid} on {socket.gethostname()}, since 20..-"
    with pytest.raises(ConfigError, match=expected), state_locked(tmp_path / "state"):
        pass


def test_a_killed_process_leaves_no_lock_behind(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with state_locked(tmp_path / "state"):
        assert json.loads((tmp_path / "state" / "lock").read_text())["pid"] == os.getpid()


def test_it_is_free_afterwards_and_names_nobody(tmp_path):
    for _ in range(2):
        with state_locked(tmp_path / "state"):
            pass
    assert (tmp_path / "state" / "lock").read_text() == ""


def test_a_holder_without_a_name(tmp_path):
    with state_locked(tmp_path):
        (tmp_path / "lock").write_text("")
        with pytest.raises(ConfigError, match="another is working with"), state_locked(tmp_path):
            pass
