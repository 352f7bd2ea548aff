"""The checks before a start, with real files and a real TLS server on the loopback."""

import contextlib
import ssl
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import yaml

import server.deployment.provision as provisioning
from client.deployment import preflight as preflight_module
from client.deployment.preflight import Status, may_start, preflight
from client.deployment.site_file import SiteFile
from client.privacy.ledger import Ledger
from server.deployment.provision import provision
from shared_model.system.processes import free_port
from simulations.commands.app import main
from simulations.phantom.write import write_phantom

DIGEST = "0" * 64


@contextlib.contextmanager
def served(folder, port, *, clock=timedelta(0)):
    class Handler(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp=None):
            return format_datetime(datetime.now(UTC) + clock, usegmt=True)

        def do_GET(self):
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    web = HTTPServer(("127.0.0.1", port), Handler)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    try:
        yield
    finally:
        web.shutdown()
        thread.join()
        web.server_close()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "phantom"
    write_phantom(root, num_patients=12, seed=0, progress=lambda done: None)
    return root


def kits_in(folder, data, *, valid_days=90):
    port = free_port()
    made = provision(
        out=folder, sites=["MGH", "WFU"], host="localhost", port=port, valid_days=valid_days, approved_bundles=[DIGEST]
    )
    path = made.sites["MGH"] / "site.yaml"
    settings = yaml.safe_load(path.read_text())
    settings |= {"data_root": str(data), "data_source": "cbis_ddsm", "roster": "sites.csv"}
    path.write_text(yaml.safe_dump(settings))
    return made, port


@pytest.fixture
def kits(tmp_path, data):
    return kits_in(tmp_path / "kits", data)


def by_name(kits):
    return {check.name: check for check in preflight(SiteFile.load(kits.sites["MGH"] / "site.yaml"))}


def test_all_is_well(kits, capsys):
    made, port = kits
    with served(made.server, port):
        checks = by_name(made)
        assert main(["site", "preflight", "--site", str(made.sites["MGH"] / "site.yaml")]) == 0
    assert [check.name for check in checks.values() if check.status is not Status.OK] == []
    assert set(checks) == {
        *(
            "data",
            "ledger",
            "policy",
            "bundles",
            "private key",
            "audit log",
            "disk",
            "server",
            "certificate",
            "clock",
            "versions",
        ),
    }
    assert "patients" in checks["data"].detail
    assert "Preflight" in capsys.readouterr().out


def test_a_server_that_is_away_is_waited_for(kits):
    checks = by_name(kits[0])
    assert checks["server"].status is Status.WARNING
    assert may_start(list(checks.values()))


def test_a_server_of_another_authority(kits, tmp_path, data):
    made, port = kits
    other, _ = kits_in(tmp_path / "other", data)
    with served(other.server, port):
        checks = by_name(made)
    assert checks["certificate"].status is Status.FAILED
    assert "take ca.pem from your kit" in checks["certificate"].remedy


def test_an_expired_certificate(tmp_path, data, monkeypatch):
    class Past(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=10)

    with monkeypatch.context() as patched:
        patched.setattr(provisioning, "datetime", Past)
        made, port = kits_in(tmp_path / "kits", data, valid_days=5)
    with served(made.server, port):
        check = by_name(made)["certificate"]
    assert check.status is Status.FAILED
    assert "expired" in check.detail


def test_a_certificate_about_to_expire(tmp_path, data):
    made, port = kits_in(tmp_path / "kits", data, valid_days=3)
    with served(made.server, port):
        check = by_name(made)["certificate"]
    assert (check.status, check.detail) == (Status.WARNING, "valid for 3 days")


@pytest.mark.parametrize("clock", [timedelta(minutes=5), timedelta(minutes=-5)])
def test_a_clock_that_is_wrong(kits, clock):
    made, port = kits
    with served(made.server, port, clock=clock):
        assert by_name(made)["clock"].status is Status.FAILED


def test_failures_name_what_to_do_and_stop_the_start(kits, monkeypatch, capsys):
    made, _ = kits
    kit = made.sites["MGH"]
    Ledger(kit / "ledger.sqlite")
    (kit / "ledger.sqlite.key").write_bytes(b"x")
    (kit / "policy.yaml").write_text("max_epsilon: 8\n")
    (kit / "approved_bundles.txt").write_text("# none\n")
    (kit / "node.key").chmod(0o644)
    (kit / "state").mkdir()
    (kit / "state" / "audit.jsonl").write_text("notes\n")
    settings = yaml.safe_load((kit / "site.yaml").read_text()) | {"data_root": "nowhere"}
    (kit / "site.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setattr(preflight_module, "_MIN_FREE_BYTES", 2**80)
    checks = by_name(made)
    failed = {name for name, check in checks.items() if check.status is Status.FAILED}
    assert failed == {"data", "ledger", "policy", "bundles", "private key", "audit log", "disk"}
    assert all(checks[name].remedy for name in failed)
    assert main(["site", "preflight", "--site", str(kit / "site.yaml")]) == 1
    assert main(["site", "start", "--site", str(kit / "site.yaml")]) == 1
    assert "Expected every check to pass" in capsys.readouterr().err


def test_no_site_file(tmp_path, capsys):
    assert main(["site", "preflight", "--site", str(tmp_path / "site.yaml")]) == 1
    assert capsys.readouterr().err.count("error:") == 1
