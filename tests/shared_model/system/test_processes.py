"""Child processes: started, watched, stopped, and never left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shared_model.system import processes
from shared_model.system.processes import (
    flower_environment,
    free_port,
    start_process,
    stop_on_signals,
    stop_process,
    wait_for_port,
)

SLEEPER = "import time\nwhile True: time.sleep(1)"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\n" + SLEEPER
LISTENER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True: time.sleep(1)
"""


@pytest.fixture
def start(tmp_path):
    """Start Python code as a child in ``tmp_path / "folder"`` and stop it after the test."""
    children = []

    def start(code, *arguments):
        process = start_process(
            (sys.executable, "-c", code, *arguments),
            environment={"VALUE": "seen"},
            folder=tmp_path / "folder",
            log=tmp_path / "log",
        )
        children.append(process)
        return process

    yield start
    for process in children:
        stop_process(process)


def test_a_child_gets_its_folder_its_environment_and_its_log(start, tmp_path):
    code = "import os, sys; print(os.getcwd(), os.environ['VALUE'], repr(sys.stdin.read()), flush=True); sys.exit('no')"
    assert start(code).wait() == 1
    start("print('again')").wait()
    folder = (tmp_path / "folder").resolve()
    assert (tmp_path / "log").read_text().splitlines() == [f"{folder} seen ''", "no", "again"]


def test_a_child_stops_when_asked(start):
    process = start(SLEEPER)
    stop_process(process)
    assert process.returncode == -signal.SIGTERM
    stop_process(process)


def test_a_child_that_ignores_the_request_is_killed(start, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_STOP_SECONDS", 0.1)
    process = start(STUBBORN)
    while "ready" not in (tmp_path / "log").read_text():
        assert process.poll() is None
    stop_process(process)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at the parent's death is Linux")
def test_a_child_dies_with_a_parent_that_is_killed(tmp_path):
    parent = f"""
import sys
from pathlib import Path
from shared_model.system.processes import start_process
child = start_process((sys.executable, "-c", {SLEEPER!r}), environment={{}}, folder=Path("."), log=Path("log"))
print(child.pid, flush=True)
child.wait()
"""
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    command = (sys.executable, "-c", parent)
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE)  # noqa: S603
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    # The kernel has sent the signal by now; the child is gone, or a zombie that nobody has waited for yet.
    for _ in range(1000):
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        threading.Event().wait(0.05)
    pytest.fail(f"child {child} outlived its parent")


class TestWaitForPort:
    def test_says_when_the_process_listens(self, start):
        port = free_port()
        assert wait_for_port(port, start(LISTENER, str(port)), seconds=600, stop=threading.Event())

    def test_ends_with_the_process(self, start):
        process = start("")
        process.wait()
        assert not wait_for_port(free_port(), process, seconds=600, stop=threading.Event())

    def test_ends_when_asked_to_stop_or_when_time_is_up(self, start):
        process, stop = start(SLEEPER), threading.Event()
        stop.set()
        assert not wait_for_port(free_port(), process, seconds=600, stop=stop)
        assert not wait_for_port(free_port(), process, seconds=0, stop=threading.Event())


def test_a_free_port_can_be_bound():
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_set_the_event_and_afterwards_do_what_they_did_before(number):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    with stop_on_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(600)
    assert {each: signal.getsignal(each) for each in before} == before


def test_what_others_must_not_read_arrives_on_standard_input(tmp_path):
    command = (sys.executable, "-c", "import sys; print(len(sys.stdin.buffer.read()))")
    log = tmp_path / "log"
    process = start_process(command, environment={}, folder=tmp_path, log=log, stdin=b"x" * 200_000)
    assert process.wait(600) == 0
    assert log.read_text() == "200000\n"


def test_a_process_that_ends_without_reading_is_no_error(tmp_path):
    command = (sys.executable, "-c", "")
    process = start_process(command, environment={}, folder=tmp_path, log=tmp_path / "log", stdin=b"x" * 10_000_000)
    assert process.wait(600) == 0


def test_no_proxy_stands_between_processes_of_one_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "intranet.example,localhost")
    monkeypatch.delenv("no_proxy", raising=False)
    environment = flower_environment(tmp_path)
    assert environment["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert environment["NO_PROXY"] == environment["no_proxy"] == "intranet.example,localhost,127.0.0.1,::1"


def test_flower_is_silent_installs_nothing_and_finds_its_own_commands(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/elsewhere")
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    monkeypatch.setenv("UNRELATED", "kept")
    environment = flower_environment(tmp_path)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert environment["FLWR_HOME"] == str(tmp_path)
    assert environment["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/elsewhere"]
    assert environment["UNRELATED"] == "kept"
