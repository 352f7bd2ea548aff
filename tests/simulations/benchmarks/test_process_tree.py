"""What a process and all that it has begun have used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.benchmarks.process_memory import NOW, memory_bytes
from simulations.benchmarks.process_tree import peak_bytes, processor_seconds

BUSY = "import time\nwhile time.process_time() < 0.2: pass\n"
"""Ends after a fifth of a second of processor time."""


@pytest.fixture
def parent():
    """A process that has had a busy child, and has another one that says so and waits."""
    waiting = f"{BUSY}held = b'x' * (64 << 20)\nprint('busy', flush=True)\ninput()"
    script = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])\n"
        f"subprocess.run([sys.executable, '-c', {waiting!r}])\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout.readline() == "busy\n"
        yield process
        if process.poll() is None:
            process.communicate("\n")


def test_children_that_run_and_that_have_ended_count(parent):
    assert processor_seconds(parent.pid) >= 0.38
    # The parent itself does nothing but wait.
    fields = Path(f"/proc/{parent.pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    assert own < processor_seconds(parent.pid) - 0.3


def test_memory_is_that_of_all_together(parent):
    assert peak_bytes(parent.pid) > (64 << 20) + memory_bytes(NOW, parent.pid)


def test_a_process_that_is_gone_uses_nothing(parent):
    parent.communicate("\n")
    assert processor_seconds(parent.pid) == 0
    assert peak_bytes(parent.pid) == 0
    with pytest.raises(OSError, match=str(parent.pid)):
        memory_bytes(NOW, parent.pid)
