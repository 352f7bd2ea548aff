"""The coordinator's commands without a SuperLink; with one they run in the rehearsal's tests."""

import contextlib
import shutil
import threading
from datetime import datetime, timedelta

import pytest

from server.deployment import control, federation_status, superlink, watch
from server.deployment.bundle import bundle_digest
from server.deployment.provision import provision
from shared_model.system import processes
from simulations.commands.app import main
from tests.server.deployment.test_federation_status import federation, run


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory):
    """Making the bundle takes seconds."""
    out = tmp_path_factory.mktemp("provisioned") / "kits"
    assert main(["server", "provision", "--sites", "mgh,wfu", "--out", str(out), "--port", "1"]) == 0
    return out


@pytest.fixture
def kit(provisioned, tmp_path):
    shutil.copytree(provisioned, tmp_path / "kits")
    return tmp_path / "kits" / "server"


def one_line_error(capsys):
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error:"))
    return line


def test_sites_approve_the_bundle_that_will_be_sent(provisioned):
    for site in ("mgh", "wfu"):
        assert bundle_digest() in (provisioned / "sites" / site / "approved_bundles.txt").read_text()


def test_provision_will_not_overwrite(kit, capsys):
    assert main(["server", "provision", "--sites", "mgh", "--out", str(kit.parent)]) == 1
    assert "new or empty folder" in one_line_error(capsys)


def test_no_kit(tmp_path, capsys):
    assert main(["server", "status", "--kit", str(tmp_path)]) == 1
    assert "as fedmammo server provision makes it" in one_line_error(capsys)


def test_no_superlink(kit, capsys):
    assert main(["server", "status", "--kit", str(kit)]) == 1
    assert one_line_error(capsys)


def test_a_run_needs_enrolled_sites(kit, capsys, tmp_path):
    assert main(["server", "run", "--kit", str(kit), "preset=smoke", f"run.dir={tmp_path / 'run'}"]) == 1
    assert "Expected all sites to be enrolled" in one_line_error(capsys)


def test_resume_needs_a_run(kit, capsys, tmp_path):
    assert main(["server", "resume", "--kit", str(kit), str(tmp_path)]) == 1
    assert "Expected a run of fedmammo server run" in one_line_error(capsys)


def test_start_refuses_a_certificate_of_another_authority(kit, tmp_path, capsys):
    other = provision(
        out=tmp_path / "other", sites=["mgh"], hosts=["localhost"], port=1, valid_days=9, approved_bundles=[]
    )
    (kit / "server.pem").write_bytes((other.server / "server.pem").read_bytes())
    assert main(["server", "start", "--kit", str(kit)]) == 1
    assert "signed" in one_line_error(capsys)


def test_start_refuses_an_expired_certificate(kit, monkeypatch, capsys):
    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=400)

    monkeypatch.setattr(superlink, "datetime", Later)
    assert main(["server", "start", "--kit", str(kit)]) == 1
    assert "it has expired; make another with fedmammo server provision --renew-certificate" in one_line_error(capsys)


def test_start_serves_the_kit_and_says_when_sites_may_connect(kit, monkeypatch, capsys):
    served, stop, watched = [], threading.Event(), []

    def serve(server_kit, *, stop, on_ready, on_poll):
        served.append((server_kit.folder, stop))
        on_ready()
        on_poll()

    monkeypatch.setattr(superlink, "serve", serve)
    monkeypatch.setattr(watch.Watch, "look", lambda self: watched.append(self._notify))
    monkeypatch.setattr(processes, "stop_on_signals", lambda: contextlib.nullcontext(stop))
    assert main(["server", "start", "--kit", str(kit), "--notify", "mail -s 'a run'"]) == 0
    assert served == [(kit, stop)]
    assert watched == [("mail", "-s", "a run")]
    assert capsys.readouterr().out.splitlines() == [
        "Starting on port 1 for mgh, wfu; stop with Ctrl-C.",
        f"Ready: sites may connect. {kit / 'state' / 'status.html'} shows them.",
    ]


def test_status_shows_every_site_and_run(kit, monkeypatch, capsys):
    monkeypatch.chdir(kit)
    found = federation(run("finished:failed", details="Expected [b]more[/b]."), mgh="online", wfu="offline")
    monkeypatch.setattr(federation_status, "read_status", lambda _kit: found)
    assert main(["server", "status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert [row for row in rows if row] == [
        ["mgh", "online"],
        ["wfu", "offline"],
        ["42", "2026-01-01 00:00", "finished:failed", "1 of 9", "3", "1.00"],
    ]
    assert lines[-1] == "42 in /runs/one: Expected [b]more[/b]."


def test_stop_says_how_to_go_on(kit, monkeypatch, capsys):
    stopped = []
    monkeypatch.setattr(control, "stop_run", lambda _kit, run_id: stopped.append(run_id))
    assert main(["server", "stop", "--kit", str(kit), "42"]) == 0
    assert stopped == ["42"]
    assert capsys.readouterr().out == "Run 42 is stopping; fedmammo server resume goes on with it later.\n"
