"""The SuperLink as a real process: who may ask it for what, what it runs, and what starts it."""

import io
import os
import shlex
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import pytest
from flwr.common.serde import user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType

from server.deployment import superlink
from server.deployment.bundle import build_bundle, digest_of
from server.deployment.control import enrol_sites, list_runs, site_statuses, stop_run, submit_run
from server.deployment.kit import ServerKit
from server.deployment.superlink import listening_addresses
from server.deployment.superlink_access import SuperLinkAccess
from shared_model.errors import ConfigError, RoundError
from tests.server.deployment.conftest import SECONDS, Coordinator, new_kit

MEDIA_TYPE = "application/x-protobuf"


@pytest.fixture
def own(tmp_path):
    """A coordinator for one test, not started."""
    return Coordinator(new_kit(tmp_path, "127.0.0.1"))


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def finished(kit, run_id):
    """Wait for the end of a run and return what Flower says of it."""

    def found():
        return next(run for run in list_runs(kit) if run.run_id == run_id)

    wait_for(lambda: found().is_finished)
    return found()


class TestStranger:
    """Who reaches the port and has neither kit nor key nor certificate."""

    @pytest.fixture
    def ask(self, coordinator):
        def ask(path, request=None, method="POST", **headers):
            content = b"" if request is None else request.SerializeToString()
            types = {"content-type": MEDIA_TYPE, "accept": MEDIA_TYPE, "flwr-component-name": "flwr-cli"}
            return httpx.request(
                method,
                f"https://localhost:{coordinator.kit.port}{path}",
                content=content,
                headers=types | headers,
                verify=False,  # noqa: S501, a stranger does not care
                timeout=SECONDS,
            )

        return ask

    @pytest.mark.parametrize(
        ("path", "request_of"),
        [
            ("control/list-runs", lambda _: ListRunsRequest()),
            ("control/list-nodes", lambda _: ListNodesRequest()),
            ("control/start-run", lambda _: StartRunRequest(fab=Fab(hash_str="0", content=b"0"))),
            ("control/stop-run", lambda _: StopRunRequest(run_id=1)),
            ("control/register-node", lambda kit: RegisterNodeRequest(public_key=kit.public_keys()["mgh"])),
            ("control/unregister-node", lambda kit: UnregisterNodeRequest(node_id=kit.node_ids()["mgh"])),
            ("runtime/acquire-task", lambda _: AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])),
        ],
    )
    def test_is_refused_and_changes_nothing(self, coordinator, ask, path, request_of):
        before = (list_runs(coordinator.kit), site_statuses(coordinator.kit))
        reply = ask(f"/v1/{path}", request_of(coordinator.kit))
        assert (reply.status_code, reply.text) == (403, "for the coordinator alone")
        assert (list_runs(coordinator.kit), site_statuses(coordinator.kit)) == before

    @pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/redoc"])
    def test_reads_no_description(self, ask, path):
        assert ask(path, method="GET").status_code == 403

    @pytest.mark.parametrize("name", ["pull-messages", "register-node", "get-fab", "pull-object", "push-object"])
    def test_is_no_site(self, ask, name):
        assert (ask(f"/v1/fleet/{name}").status_code, ask(f"/v1/fleet/{name}").text) == (
            401,
            "for enrolled sites alone",
        )

    def test_may_ask_whether_the_server_runs(self, ask):
        assert ask("/health", method="GET").status_code == 200


class TestCoordinator:
    def test_sites_are_enrolled_by_their_keys(self, coordinator):
        assert site_statuses(coordinator.kit) == {"mgh": "registered", "wfu": "registered"}

    def test_a_run_is_the_code_that_is_installed_here(self, coordinator):
        overrides = ["run.dir='/a b/c (d)'", "no_such_key=1"]
        run = finished(coordinator.kit, submit_run(coordinator.kit, overrides))
        assert run.status == "finished:failed"
        assert "no_such_key" in run.details
        log = coordinator.kit.run_log(run.run_id).read_text()
        assert "no_such_key" in log
        assert "Traceback" not in log

    def test_other_code_is_not_run(self, coordinator, tmp_path):
        canary = tmp_path / "canary"
        source = b"from pathlib import Path\nPath(%r).touch()\n" % str(canary)
        bundle = build_bundle().replace(_member("server/app.py"), source.ljust(len(_member("server/app.py")), b"#"))
        assert bundle != build_bundle()
        request = StartRunRequest(
            fab=Fab(hash_str=digest_of(bundle), content=bundle),
            override_config=user_config_to_proto({"overrides": shlex.join(["no_such_key=1"])}),
        )
        with SuperLinkAccess.read(coordinator.kit).control() as client:
            run = finished(coordinator.kit, str(client.StartRun(request).run_id))
        assert run.status == "finished:failed"
        assert f"got {digest_of(bundle)}" in run.details
        assert not canary.exists()

    def test_runs_come_in_the_order_of_their_submission_and_are_stopped_by_their_number(self, coordinator, tmp_path):
        kit = coordinator.kit
        before = [run.run_id for run in list_runs(kit)]
        sites = [f"federation.sites=[{','.join(kit.sites)}]", "federation.round_timeout_seconds=600"]
        first, second = (
            submit_run(kit, ["preset=smoke", *sites, f"run.dir={tmp_path / name}"]) for name in ("one", "two")
        )
        assert [run.run_id for run in list_runs(kit)] == [*before, first, second]
        for run_id in (first, second):
            stop_run(kit, run_id)
            assert finished(kit, run_id).status == "finished:stopped"
        with pytest.raises(RoundError, match=f"Expected the SuperLink to stop run {first}, it refused: .*finished"):
            stop_run(kit, first)
        with pytest.raises(RoundError, match=r"Expected the number of a run, got 'x'; fedmammo server status"):
            stop_run(kit, "x")

    def test_no_secret_is_on_a_command_line(self, coordinator):
        secret = coordinator.kit.secret_path.read_text()
        assert len(secret) >= 64
        assert coordinator.kit.secret_path.stat().st_mode & 0o77 == 0
        lines = subprocess.run(["ps", "-eww", "-o", "args"], check=True, capture_output=True, text=True).stdout  # noqa: S607
        assert "flower_superlink" in lines
        assert secret not in lines


class TestListening:
    def test_a_server_for_this_machine_is_heard_on_it_alone(self, coordinator):
        listening = _listening(coordinator.kit.port)
        assert "127.0.0.1" in listening
        assert listening <= {"127.0.0.1", "::1"}

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1"])
    def test_loopback(self, host):
        assert listening_addresses([host]) == ("127.0.0.1", "::1")
        assert listening_addresses(["localhost", host]) == ("127.0.0.1", "::1")

    @pytest.mark.parametrize("host", ["10.0.0.1", "2001:db8::1", "server.example.org", "localhost.example.org"])
    def test_others(self, host):
        assert listening_addresses([host]) == ("0.0.0.0", "::")  # noqa: S104
        assert listening_addresses(["localhost", host, "::1"]) == ("0.0.0.0", "::")  # noqa: S104


class TestStart:
    def test_a_kit_is_served_once(self, own):
        own.start()
        try:
            with pytest.raises(ConfigError, match=f"Expected one process at a time in .*process {os.getpid()}"):
                Coordinator(own.kit).start()
        finally:
            own.stop()

    def test_a_port_that_is_taken(self, own):
        with (
            socket.create_server(("127.0.0.1", own.kit.port)),
            pytest.raises(ConfigError, match=f"Expected port {own.kit.port} to be free: Address already in use"),
        ):
            own.start()
        assert not (own.kit.state_dir / "server.lock").exists()

    def test_nobody_answers(self, own):
        with pytest.raises(RoundError, match="is fedmammo server start running, and as the same user"):
            list_runs(own.kit)
        SuperLinkAccess.create(own.kit)
        with pytest.raises(RoundError, match=f"nothing answers on 127.0.0.1:{own.kit.port}; is fedmammo server start"):
            list_runs(own.kit)

    def test_who_left_the_kit_is_removed_and_a_key_that_was_removed_never_comes_back(self, own, caplog):
        own.start()
        node_ids = own.kit.node_ids()
        settings = own.kit.folder / "server.yaml"
        whole = settings.read_text()
        settings.write_text(whole.replace("- wfu\n", ""))
        less = ServerKit.load(own.kit.folder)
        enrol_sites(less)
        assert less.node_ids() == {"mgh": node_ids["mgh"]}
        assert caplog.messages == [f"Removed node {node_ids['wfu']} 'wfu': it was enrolled, and no kit has its key."]
        with pytest.raises(ConfigError, match=r"Expected the keys of wfu to be enrolled, .* server provision --renew"):
            enrol_sites(own.kit)
        own.stop()

    def test_a_lost_list_of_nodes_is_found_again(self, own):
        own.start()
        own.stop()
        node_ids = own.kit.node_ids()
        own.kit.write_node_ids({})
        own.start()
        own.stop()
        assert own.kit.node_ids() == node_ids
        assert set(node_ids) == {"mgh", "wfu"}

    def test_a_run_that_a_killed_server_left_behind_can_be_resumed_at_once(self, own, tmp_path, monkeypatch, caplog):
        # The process of the run is killed with the server and tells Flower nothing.
        killed = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        start = superlink.processes.start_process

        def start_process(command, **options):
            return start(killed if command[-1] == superlink._SERVER_PROCESS else command, **options)

        monkeypatch.setattr(superlink.processes, "start_process", start_process)
        own.start()
        run_id = submit_run(own.kit, ["preset=smoke"])
        wait_for(lambda: list_runs(own.kit)[0].status in {"starting", "running"})
        own.stop()
        own.start()
        run = list_runs(own.kit)[0]
        own.stop()
        assert (run.run_id, run.status) == (run_id, "finished:stopped")
        assert f"Run {run_id} ended with the last server process; fedmammo server resume goes on." in caplog.messages

    @pytest.mark.parametrize("days_left", [0.0, -3.0])
    def test_an_expired_certificate_starts_nothing(self, own, monkeypatch, days_left):
        monkeypatch.setattr(superlink, "certificate_days_left", lambda certificate, now: days_left)
        with pytest.raises(
            ConfigError, match=r"server\.pem to be valid, it has expired; make another .* --renew-certificate"
        ):
            own.start()
        assert not own.kit.state_dir.exists()

    def test_a_superlink_that_does_not_start_or_ends_by_itself(self, own, monkeypatch):
        (own.kit.state_dir / "superlink.db").mkdir(parents=True)
        with pytest.raises(ConfigError, match=r"Expected the SuperLink to open port .*; see .*superlink\.log"):
            own.start()


def _member(name):
    """Return a file of the bundle, which Flower does not compress."""
    with zipfile.ZipFile(io.BytesIO(build_bundle())) as archive:
        assert archive.getinfo(name).compress_type == zipfile.ZIP_STORED
        return archive.read(name)


def _listening(port):
    """Return the addresses of this machine at which something listens on ``port`` (Linux)."""
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, number = local.split(":")
            if state == "0A" and int(number, 16) == port:
                # Words of four bytes, each the other way round.
                content = bytes.fromhex(address)
                words = (content[start : start + 4][::-1] for start in range(0, len(content), 4))
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found
