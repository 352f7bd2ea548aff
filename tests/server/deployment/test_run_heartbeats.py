"""The claim of a run is kept while its process starts, however long that takes on a busy machine."""

import socket
import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import httpx
import pytest
from flwr.proto.runtime_pb2 import AcquireTaskResponse, SendTaskHeartbeatRequest

from server.deployment import superlink, superlink_access
from server.deployment.certificate_authority import authority_certificate, certificate_pem, new_key
from server.deployment.superlink_access import SuperLinkAccess
from shared_model.system import processes


class Client:
    """The SuperLink's client: hands out each of ``tokens`` once, counts heartbeats."""

    def __init__(self, tokens=()):
        self.tokens, self.num_beats, self.is_closed = list(tokens), 0, False

    def AcquireTask(self, _request):  # noqa: N802, Flower's name
        response = AcquireTaskResponse()
        if self.tokens:
            response.task.run_id, response.token = 7, self.tokens.pop()
        return response

    def SendTaskHeartbeat(self, _request):  # noqa: N802
        self.num_beats += 1

    def close(self):
        self.is_closed = True


class Access:
    def __init__(self, *tokens):
        self.of_tasks, self.of_task = Client(tokens), {token: Client() for token in tokens}

    def tasks(self):
        return self.of_tasks

    def heartbeats(self, token):
        return self.of_task[token]

    def to_bytes(self):
        return b"{}"


@pytest.fixture
def runs_of(tmp_path, monkeypatch):
    """Make the runs of an access; their processes never say a word to the SuperLink, and wait to be stopped."""
    started = []

    def start(*_arguments, **_keywords):
        started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        return started[-1]

    monkeypatch.setattr(processes, "start_process", start)
    kit = SimpleNamespace(run_log=lambda run: tmp_path / f"{run}.log", flower_home=tmp_path, state_dir=tmp_path)
    yield lambda access: (superlink._Runs(kit, access), started)
    for process in started:
        process.kill()
        process.communicate()


def test_a_run_is_spoken_for_from_its_start_until_its_process_has_ended(runs_of, monkeypatch):
    monkeypatch.setattr(superlink, "_BEAT_SECONDS", 0.0)
    access = Access("first", "second")
    runs, started = runs_of(access)
    for _ in range(3):
        runs.take_next()
    assert {token: client.num_beats for token, client in access.of_task.items()} == {"second": 2, "first": 1}
    started[0].kill()
    started[0].wait()
    runs.take_next()
    assert {token: client.num_beats for token, client in access.of_task.items()} == {"second": 2, "first": 2}
    assert {token: client.is_closed for token, client in access.of_task.items()} == {"second": True, "first": False}
    runs.close()
    assert access.of_task["first"].is_closed
    assert started[1].poll() is not None


def test_it_is_spoken_for_now_and_then_and_not_at_every_look(runs_of, monkeypatch):
    monkeypatch.setattr(superlink, "_BEAT_SECONDS", 1e6)
    access = Access("token")
    runs, _ = runs_of(access)
    for _ in range(5):
        runs.take_next()
    assert access.of_task["token"].num_beats == 1


def test_without_a_certificate_to_trust_no_process_is_left_behind(runs_of, monkeypatch):
    def unreadable(_token):
        raise FileNotFoundError

    access = Access("token")
    monkeypatch.setattr(access, "heartbeats", unreadable)
    runs, started = runs_of(access)
    with pytest.raises(FileNotFoundError, match=r"^$"):
        runs.take_next()
    assert started == []


def test_a_run_that_flower_has_ended_interrupts_nobody(runs_of, monkeypatch, coordinator):
    """With Flower's own retries, the first refusal would be a Ctrl-C of the whole coordinator."""
    client = SuperLinkAccess.read(coordinator.kit).heartbeats("0" * 64)
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    monkeypatch.setattr(superlink, "_BEAT_SECONDS", 0.0)
    access = Access("token")
    access.of_task["token"] = client
    runs, _ = runs_of(access)
    for _ in range(3):
        runs.take_next()
    runs.close()


def test_a_superlink_that_hangs_holds_up_no_other_run(tmp_path, monkeypatch):
    """Earlier each heartbeat waited for it for five minutes, in the loop that serves all runs and ends at Ctrl-C."""
    assert superlink_access._HEARTBEAT_SECONDS < superlink_access._SECONDS / 10
    monkeypatch.setattr(superlink_access, "_HEARTBEAT_SECONDS", 0.1)
    authority = tmp_path / "ca.pem"
    authority.write_bytes(certificate_pem(authority_certificate(new_key(), datetime.now(UTC))))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        client = SuperLinkAccess(address=address, authority=str(authority), secret="").heartbeats("0" * 64)
        with pytest.raises(httpx.TimeoutException, match=r"."):
            client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        client.close()
