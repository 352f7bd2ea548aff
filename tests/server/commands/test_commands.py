"""The coordinator's commands without a SuperLink; with one they run in the rehearsal's tests."""

import contextlib
import shutil
import threading
from datetime import UTC, datetime, timedelta

import pytest

from server.deployment import control, federation_status, superlink, watch
from server.deployment.bundle import bundle_digest
from server.deployment.certificates import certificate_days_left
from server.deployment.kit import ServerKit
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


def said_by(capsys):
    return capsys.readouterr().out.splitlines()


class TestChangesOfKits:
    @pytest.fixture
    def out(self, kit, capsys):
        capsys.readouterr()
        return kit.parent

    def test_spaces_after_commas_and_several_hosts(self, tmp_path):
        arguments = ["--sites", "mgh, wfu", "--host", "a.example.org, 10.0.0.1 ,::1", "--valid-days", "3"]
        assert main(["server", "provision", *arguments, "--out", str(tmp_path / "kits")]) == 0
        kit = ServerKit.load(tmp_path / "kits" / "server")
        assert (kit.hosts, kit.port, kit.sites) == (("a.example.org", "10.0.0.1", "::1"), 9092, ("mgh", "wfu"))
        assert kit.bundle == bundle_digest()

    def test_add(self, out, capsys):
        assert main(["server", "provision", "--add", "new, ca", "--out", str(out)]) == 0
        assert ServerKit.load(out / "server").sites == ("mgh", "wfu", "new", "ca")
        assert said_by(capsys) == [
            f"Send {out}/sites/new to new by a safe way: it holds a private key.",
            f"Send {out}/sites/ca to ca by a safe way: it holds a private key.",
            f"It answers application bundle {bundle_digest()}, as the others do.",
            "Then start fedmammo server start again; if the server's kit is elsewhere, first copy server.yaml and "
            "sites/*.pub.",
        ]

    def test_add_says_where_other_code_is_installed_by_now(self, out, capsys):
        settings = out / "server" / "server.yaml"
        settings.write_text(settings.read_text().replace(bundle_digest(), "a" * 64))
        assert main(["server", "provision", "--add", "new", "--out", str(out)]) == 0
        assert (
            f"It answers application bundle {'a' * 64}, as server.yaml says; installed here is {bundle_digest()}."
            in said_by(capsys)
        )

    def test_revoke(self, out, capsys):
        assert main(["server", "provision", "--revoke", "wfu", "--out", str(out)]) == 0
        assert ServerKit.load(out / "server").sites == ("mgh",)
        assert said_by(capsys) == [
            "wfu will be removed from the federation; there is nothing to send.",
            "Then start fedmammo server start again; if the server's kit is elsewhere, first copy server.yaml there, "
            "and remove sites/wfu.pub.",
        ]

    def test_renew(self, out, capsys):
        before = (out / "sites" / "wfu" / "node.key").read_bytes()
        assert main(["server", "provision", "--renew", "wfu", "--out", str(out)]) == 0
        assert (out / "sites" / "wfu" / "node.key").read_bytes() != before
        assert said_by(capsys) == [
            f"Send node.key and node.pub of {out}/sites/wfu to wfu by a safe way: they take the place of those there, "
            "and all else stays.",
            "Then start fedmammo server start again; if the server's kit is elsewhere, first copy sites/wfu.pub.",
        ]

    def test_renew_certificate(self, out, capsys):
        arguments = ["--renew-certificate", "--host", "::1, a.example.org", "--valid-days", "5"]
        assert main(["server", "provision", *arguments, "--out", str(out)]) == 0
        kit = ServerKit.load(out / "server")
        assert kit.hosts == ("::1", "a.example.org")
        assert 4.9 < certificate_days_left(out / "server" / "server.pem", datetime.now(UTC)) < 5.1
        assert said_by(capsys) == [
            "A new certificate for ::1, a.example.org: there is nothing to send, hospitals trust its authority.",
            "Kits to come are told [::1]:1; who had another address changes server in its site.yaml.",
            "Then start fedmammo server start again; if the server's kit is elsewhere, first copy server.key, "
            "server.pem and server.yaml.",
        ]
        assert main(["server", "provision", "--renew-certificate", "--out", str(out)]) == 0
        assert ServerKit.load(out / "server").hosts == kit.hosts

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "Expected one of --sites, --add, --revoke, --renew, --renew-certificate, got none."),
            (["--sites", "a", "--add", "b"], "got --sites and --add."),
            (["--revoke", "mgh", "--renew", "mgh"], "got --revoke and --renew."),
            (["--add", "a", "--renew-certificate"], "got --add and --renew-certificate."),
            (["--add", "a", "--host", "b", "--port", "1"], "Expected --add without --host and --port"),
            (["--revoke", "mgh", "--valid-days", "1"], "Expected --revoke without --valid-days"),
            (["--renew", "mgh", "--port", "1"], "Expected --renew without --port"),
            (["--renew-certificate", "--port", "1"], "Expected --renew-certificate without --port"),
        ],
    )
    def test_flags_that_do_not_go_together(self, out, capsys, arguments, message):
        assert main(["server", "provision", *arguments, "--out", str(out)]) == 2
        assert message in one_line_error(capsys)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--add", "mgh"], "to be distinct, ignoring case"),
            (["--add", "a,,b"], "to be a name of"),
            (["--add", "../x"], "to be a name of"),
            (["--revoke", "mgh,wfu"], "Expected a site to stay"),
            (["--revoke", "other"], "Expected names of the kits, each once, of mgh, wfu; got other."),
            (["--renew", ""], "Expected names of the kits, each once, of mgh, wfu; got ."),
            (["--renew-certificate", "--host", "a, a"], "to be distinct"),
            (["--renew-certificate", "--host", ""], "to be a DNS name or IP address"),
            (["--renew-certificate", "--valid-days", "0"], "valid_days=0"),
        ],
    )
    def test_what_cannot_be_is_one_line(self, out, capsys, arguments, message):
        assert main(["server", "provision", *arguments, "--out", str(out)]) == 1
        assert message in one_line_error(capsys)

    @pytest.mark.parametrize(
        "arguments", [["--add", "a"], ["--revoke", "mgh"], ["--renew", "a"], ["--renew-certificate"]]
    )
    def test_a_folder_without_kits(self, tmp_path, capsys, arguments):
        assert main(["server", "provision", *arguments, "--out", str(tmp_path / "none")]) == 1
        assert "Expected kits in out=" in one_line_error(capsys)
        assert not (tmp_path / "none").exists()


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
