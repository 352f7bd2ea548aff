"""Kits as a real SuperLink takes them: over IPv6, after changes, with an encrypted key, in an oddly named folder."""

import os
import secrets
import socket
import stat
import subprocess
import sys
import time
from base64 import b64encode
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

from server.deployment.control import list_runs, site_statuses, stop_run, submit_run
from server.deployment.flower_superlink import listening_sockets
from server.deployment.kit import ServerKit
from server.deployment.kit_changes import add_sites, renew_certificate, renew_sites, revoke_sites
from server.deployment.private_keys import SERVER_PASSPHRASE
from server.deployment.superlink_access import SuperLinkAccess
from shared_model.config.overrides import override
from shared_model.errors import ConfigError
from shared_model.system.processes import flower_environment, free_port, start_process, stop_process
from simulations.commands.app import main
from tests.server.deployment.conftest import SECONDS, Coordinator, new_kit

ODD_NAME = 'Jörg (study), "a" [b]'


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 on its loopback interface")


@contextmanager
def started(kit):
    coordinator = Coordinator(kit)
    coordinator.start()
    try:
        yield kit
    finally:
        coordinator.stop()


@contextmanager
def supernode(kit, site, folder):
    """Run Flower's SuperNode with the kit of a site, as ``fedmammo site start`` does."""
    own = kit.folder.parent / "sites" / site
    folder.mkdir()
    secret = folder / "secret"
    secret.write_bytes(secrets.token_bytes(32))
    command = (
        *(sys.executable, "-P", "-m", "client.deployment.flower_supernode"),
        *("--superlink", yaml.safe_load((own / "site.yaml").read_text())["server"]),
        *("--root-certificates", str(own / "ca.pem"), "--auth-supernode-private-key", str(own / "node.key")),
        *("--isolation", "process", "--host", "127.0.0.1", "--port", str(free_port())),
        *("--superexec-auth-secret-file", str(secret)),
    )
    environment = flower_environment(folder / "flower") | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = start_process(command, environment=environment, folder=folder / "empty", log=folder / "log")
    try:
        yield process
    finally:
        stop_process(process)


def wait_for(condition, process=None):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None
        time.sleep(0.1)


def status_of(kit, key_file):
    """Return the status of a request that is signed with a site's private key."""
    key, instant = load_ssh_private_key(key_file.read_bytes(), None), datetime.now(UTC).isoformat()
    encoded = {
        "flwr-public-key": public_key_to_bytes(key.public_key()),
        "flwr-signature": sign_message(key, instant.encode()),
    }
    headers = {name: b64encode(value).decode() for name, value in encoded.items()} | {"flwr-timestamp": instant}
    address = f"https://localhost:{kit.port}/v1/fleet/pull-messages"
    return httpx.post(address, headers=headers, verify=SuperLinkAccess.read(kit)._trust(), timeout=SECONDS).status_code


@needs_ipv6
@pytest.mark.slow
def test_a_site_connects_over_ipv6(tmp_path):
    kit = new_kit(tmp_path, "::1")
    site = yaml.safe_load((tmp_path / "kits" / "sites" / "mgh" / "site.yaml").read_text())
    assert site["server"] == f"[::1]:{kit.port}"
    with started(kit), supernode(kit, "mgh", tmp_path / "node") as node:
        wait_for(lambda: site_statuses(kit)["mgh"] == "online", node)


@needs_ipv6
def test_a_port_that_is_taken_in_ipv6_alone(tmp_path):
    kit = new_kit(tmp_path, "localhost")
    with (
        socket.create_server(("::1", kit.port), family=socket.AF_INET6),
        pytest.raises(ConfigError, match=f"Expected port {kit.port} to be free: Address already in use"),
    ):
        Coordinator(kit).start()


def test_a_machine_without_ipv6_listens_at_the_other_addresses():
    # An address of the range for documentation (RFC 3849), which no machine has.
    (found,) = listening_sockets(["127.0.0.1", "2001:db8::1"], 0)
    with found:
        assert found.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError, match=r"."):
        listening_sockets(["2001:db8::1"], 0)


@pytest.mark.slow
def test_changes_count_from_the_next_start(tmp_path, caplog):
    out = tmp_path / "kits"
    kit, old_key = new_kit(tmp_path, "localhost"), tmp_path / "old.key"
    old_key.write_bytes((out / "sites" / "mgh" / "node.key").read_bytes())
    with started(kit):
        before = kit.node_ids()
        assert status_of(kit, old_key) != 401
    revoke_sites(out, ["wfu"])
    add_sites(out, ["wfu", "ismd"])
    renew_sites(out, ["mgh"])
    renew_certificate(out, hosts=["127.0.0.1", "localhost", "::1"], valid_days=9)
    changed = ServerKit.load(kit.folder)
    with started(changed):
        assert site_statuses(changed) == dict.fromkeys(("mgh", "wfu", "ismd"), "registered")
        assert not set(before.values()) & set(changed.node_ids().values())
        assert status_of(changed, old_key) == 401
        for site in changed.sites:
            assert status_of(changed, out / "sites" / site / "node.key") != 401
    removed = [line for line in caplog.messages if line.startswith("Removed node")]
    assert sorted(removed) == sorted(
        f"Removed node {node} {site!r}: it was enrolled, and no kit has its key." for site, node in before.items()
    )
    revoke_sites(out, ["ismd"])
    less = ServerKit.load(kit.folder)
    with started(less):
        assert set(site_statuses(less)) == {"mgh", "wfu"}
        assert status_of(less, out / "sites" / "mgh" / "node.key") != 401
        with pytest.raises(FileNotFoundError):
            status_of(less, out / "sites" / "ismd" / "node.key")


@pytest.mark.slow
def test_a_folder_with_an_odd_name_and_a_passphrase_from_provision_to_a_run(tmp_path, monkeypatch):
    passphrase = "höchst geheim \"'$(x)"  # noqa: S105
    monkeypatch.setenv(SERVER_PASSPHRASE, passphrase)
    folder, before = tmp_path / ODD_NAME, os.umask(0)
    try:
        out = folder / "kits"
        arguments = ["--sites", "mgh, wfu", "--host", "localhost, 127.0.0.1,::1", "--port", str(free_port())]
        assert main(["server", "provision", *arguments, "--out", str(out)]) == 0
        assert main(["server", "provision", "--add", " ismd", "--out", str(out)]) == 0
        kit = ServerKit.load(out / "server")
        assert (kit.sites, kit.hosts) == (("mgh", "wfu", "ismd"), ("localhost", "127.0.0.1", "::1"))
        run_folder = folder / "runs" / ODD_NAME
        # It waits for sites that never come, until it is stopped.
        overrides = [
            "preset=smoke",
            "model.modality=clinical",
            "federation.round_timeout_seconds=3600",
            f"federation.sites=[{','.join(kit.sites)}]",
            override("run.dir", str(run_folder)),
        ]
        with started(kit):
            with supernode(kit, "ismd", folder / "node") as node:
                wait_for(lambda: site_statuses(kit)["ismd"] == "online", node)
            run_id = submit_run(kit, overrides)
            wait_for((run_folder / "audit.jsonl").exists)
            lines = subprocess.run(["ps", "-eww", "-o", "args"], check=True, capture_output=True, text=True).stdout  # noqa: S607
            assert str(out) in lines
            assert passphrase not in lines
            stop_run(kit, run_id)
            wait_for(lambda: list_runs(kit)[0].is_finished)
        assert list_of_open(out) == []
    finally:
        os.umask(before)


def test_a_key_without_its_passphrase_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(SERVER_PASSPHRASE, "secret")
    kit = new_kit(tmp_path, "localhost")
    monkeypatch.setenv(SERVER_PASSPHRASE, "wrong")
    with pytest.raises(ConfigError, match=rf"private key in .*server\.key, and in {SERVER_PASSPHRASE} its passphrase"):
        Coordinator(kit).start()
    monkeypatch.delenv(SERVER_PASSPHRASE)
    with pytest.raises(ConfigError, match=rf"passphrase of .*server\.key in the environment: set {SERVER_PASSPHRASE}"):
        Coordinator(kit).start()
    assert not kit.state_dir.exists()


def test_a_certificate_for_other_hosts_or_another_key_starts_nothing(tmp_path):
    kit, remedy = new_kit(tmp_path, "localhost"), r"Copy what belongs together, or make another .* --renew-certificate"
    settings = kit.folder / "server.yaml"
    settings.write_text(settings.read_text().replace("- localhost", "- localhost\n- other.example.org"))
    with pytest.raises(ConfigError, match=rf"server\.pem to be made out to other\.example\.org\. {remedy}"):
        Coordinator(ServerKit.load(kit.folder)).start()
    other = new_kit(tmp_path / "other", "localhost")
    (kit.folder / "server.key").write_bytes((other.folder / "server.key").read_bytes())
    with pytest.raises(ConfigError, match=rf"Expected the private key of .*server\.pem, got another\. {remedy}"):
        Coordinator(kit).start()


def test_two_sites_with_one_key_start_nothing(tmp_path):
    kit = new_kit(tmp_path, "localhost")
    keys = kit.folder / "sites"
    (keys / "wfu.pub").write_bytes((keys / "mgh.pub").read_bytes())
    with pytest.raises(ConfigError, match=r"every site to have a key of its own, mgh and wfu share one"):
        kit.public_keys()


def list_of_open(folder):
    """Return what others than the owner may read or enter."""
    return [path for path in (folder, *folder.rglob("*")) if stat.S_IMODE(path.lstat().st_mode) & 0o077]
