"""Child processes: Flower's own commands, and how a command of ours stops when it gets a signal.

A child is stopped when this process ends, even if it is killed, so that no SuperNode or SuperLink runs on unattended.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

FLOWER_ENVIRONMENT: Mapping[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "OMP_NUM_THREADS": "1",
}
"""Flower installs nothing at run time and reports to nobody, and each process uses one core."""
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.2
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SET_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of ``prctl(2)``."""

Process = subprocess.Popen[bytes]


def flower_environment(home: Path) -> dict[str, str]:
    """Return the environment of Flower's commands, which keep their files in ``home``."""
    # Flower starts some of its commands by name, so they must be found on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **FLOWER_ENVIRONMENT, **no_proxy()} | {"FLWR_HOME": str(home), "PATH": path}


def no_proxy() -> dict[str, str]:
    """Return the variables that keep a proxy out of what two processes of one machine say to each other.

    Addresses that are excepted already stay so.
    """
    excepted = [name for key in ("no_proxy", "NO_PROXY") for name in os.environ.get(key, "").split(",") if name]
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(dict.fromkeys((*excepted, *_LOOPBACK))))


def start_process(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, stdin: bytes = b""
) -> Process:
    """Start ``command`` in ``folder``, and append its output to ``log``; it is stopped when this process ends.

    Args:
        command: program and arguments, which every user of the machine can read.
        environment: of the process.
        folder: its working folder, made if need be.
        log: for its output.
        stdin: what it reads on its standard input: secrets.

    Raises:
        OSError: it cannot be started, or ``log`` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603, our own commands
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,  # noqa: PLW1509, one system call and no lock
        )
    if process.stdin is not None:
        # One that has ended already has said why in its log.
        with suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(stdin)
    return process


def stop_process(process: Process) -> None:
    """Stop a process: ask it to end, and kill it if it is still there after 15 seconds."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for_port(port: int, process: Process, *, seconds: float, stop: threading.Event) -> bool:
    """Return True as soon as ``process`` listens on ``port``; False if it ends, time runs out or ``stop`` is set."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None and not stop.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        stop.wait(_POLL_SECONDS)
    return False


def free_port() -> int:
    """Return a port of this machine on which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that is set when this process gets SIGINT or SIGTERM inside the block."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Keep Ctrl-C from processes that are started in the block, from their first instruction on.

    They are this one's to stop; it gets the interrupt when the block ends. Only the calling thread holds it back.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _die_with_parent() -> None:
    """Ask the kernel to stop the child if this process is killed and so cannot stop it itself; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
