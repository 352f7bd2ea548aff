"""The checks before a start, with real files and a real TLS server on the loopback."""

import contextlib
import errno
import os
import ssl
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
import yaml

import server.deployment.provision as provisioning
from client.deployment import arithmetic_check
from client.deployment import preflight as preflight_module
from client.deployment.checks import Status, may_start
from client.deployment.initialisation import initialise
from client.deployment.own_patients import remember_spellings
from client.deployment.preflight import preflight
from client.deployment.site_file import SiteFile
from client.deployment.withdrawal import withdraw
from client.privacy.ledger import Ledger
from server.deployment.provision import provision
from shared_model.network import openvino_encoder
from shared_model.network.heads import RowwiseLinear
from shared_model.network.scoring import ROWS_PER_PASS
from shared_model.system.audit_log import read
from shared_model.system.processes import free_port
from simulations.commands.app import main
from simulations.phantom.write import write_phantom
from tests.hospital_kits import rows_of

DIGEST = "0" * 64
PATIENTS = [f"P{number:05d}" for number in range(48)]


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
        out=folder,
        sites=["MGH", "WFU"],
        hosts=["localhost"],
        port=port,
        valid_days=valid_days,
        approved_bundles=[DIGEST],
    )
    path = made.sites["MGH"] / "site.yaml"
    settings = yaml.safe_load(path.read_text())
    settings |= {"data_root": str(data), "data_source": "cbis_ddsm", "roster": "sites.csv"}
    path.write_text(yaml.safe_dump(settings))
    # A fifth of twelve patients in two lesion types.
    policy = made.sites["MGH"] / "policy.yaml"
    limits = {"min_patients": 2, "min_cohort_rounding": 2, "lesion_types": None, "max_reject_fraction": 0.2}
    limits["validation_fraction"] = 0.0
    policy.write_text(yaml.safe_dump(yaml.safe_load(policy.read_text()) | limits))
    initialise(SiteFile.load(path))
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
            "images",
            "grey levels",
            "patients of files",
            "ledger",
            "ledger identity",
            "rollback",
            "identifiers",
            "training patients",
            "declared size",
            "arithmetic",
            "policy",
            "bundles",
            "private key",
            "audit log",
            "disk",
            "file system",
            "other process",
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
    (kit / "ledger.sqlite.key").write_bytes(b"x")
    (kit / "policy.yaml").write_text("max_epsilons: 8\n")
    (kit / "approved_bundles.txt").write_text("# none\n")
    (kit / "node.key").chmod(0o644)
    (kit / "state" / "audit.jsonl").write_text("notes\n")
    settings = yaml.safe_load((kit / "site.yaml").read_text()) | {"data_root": "nowhere"}
    (kit / "site.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setattr(preflight_module, "_MIN_FREE_BYTES", 2**80)
    checks = by_name(made)
    failed = {name for name, check in checks.items() if check.status is Status.FAILED}
    assert failed == set(checks) - {"versions", "server", "file system", "other process"}
    assert not any("backup" in checks[name].remedy for name in failed)
    assert all(checks[name].remedy for name in failed)
    assert main(["site", "preflight", "--site", str(kit / "site.yaml")]) == 1
    assert main(["site", "start", "--site", str(kit / "site.yaml")]) == 1
    assert "Expected every check to pass" in capsys.readouterr().err


def test_a_changed_audit_log_is_kept_as_evidence_and_the_site_can_go_on(begun):
    """Earlier: "move it away, and a new one begins", which threw away what somebody should look at."""
    assert not begun.ask().has_error()
    log = begun.site.audit_log
    changed = log.read_bytes().replace(b'"answered"', b'"anzwered"')
    log.write_bytes(changed)
    checks = {check.name: check for check in preflight(begun.site)}
    failed = [name for name, check in checks.items() if check.status is Status.FAILED]
    assert failed == ["rollback", "audit log"]
    remedy = checks["audit log"].remedy
    assert "rename it, for example to audit.jsonl.changed, and tell your privacy officer" in remedy
    assert "see there first" in checks["rollback"].remedy
    kept = log.rename(log.with_name("audit.jsonl.changed"))
    assert may_start(preflight(begun.site))
    assert not begun.ask(server_round=2).has_error()
    assert may_start(preflight(begun.site))
    assert kept.read_bytes() == changed
    assert [line.event for line in read(log)] == ["asked", "reply"]


@pytest.mark.parametrize("name", ["audit log", "private key", "other process", "ledger"])
def test_files_of_another_user_are_said_to_be_so(begun, monkeypatch, name):
    """Earlier an audit log that root had made was called changed, and evidence."""
    path = {
        "audit log": begun.site.audit_log,
        "private key": begun.site.key,
        "other process": begun.site.state_dir / "lock",
        "ledger": begun.folder / "ledger.sqlite.lock",
    }[name]
    path.touch()
    real_open, real_read = os.open, Path.read_bytes

    def denied_open(opened, *arguments, **named):
        if Path(opened) == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(opened))
        return real_open(opened, *arguments, **named)

    def denied_read(opened):
        return real_read(opened) if opened != path else os.close(denied_open(path, os.O_RDONLY))

    # Tests may run as root, to whom everything is open.
    monkeypatch.setattr(os, "open", denied_open)
    monkeypatch.setattr(Path, "read_bytes", denied_read)
    check = {check.name: check for check in preflight(begun.site)}[name]
    assert (check.status, "Permission denied" in check.detail) == (Status.FAILED, True)
    assert check.remedy.startswith("let the user of this process own it")


def test_without_a_ledger_the_other_checks_point_to_it(kit):
    checks = {check.name: check for check in preflight(kit.site)}
    assert "fedmammo site init" in checks["ledger"].detail
    echoes = {name for name, check in checks.items() if check.detail == "see ledger"}
    assert echoes == {"ledger identity", "rollback", "identifiers", "training patients", "declared size"}
    assert {checks[name].status for name in echoes} == {Status.FAILED}


def test_no_site_file(tmp_path, capsys):
    assert main(["site", "preflight", "--site", str(tmp_path / "site.yaml")]) == 1
    assert capsys.readouterr().err.count("error:") == 1


class TestPatients:
    """What was judged by requests once, and told a server about patients: see the law of docs/privacy.md."""

    @pytest.fixture
    def checks_of(self, begun):
        return lambda: {check.name: check for check in preflight(begun.site)}

    def failed(self, checks):
        return {name: check.detail for name, check in checks.items() if check.status is Status.FAILED}

    def test_all_is_well(self, checks_of):
        checks = checks_of()
        assert self.failed(checks) == {}
        assert checks["training patients"].detail == "43 patients of both classes"
        assert checks["declared size"].detail == "40 declared, 43 there"
        assert checks["identifiers"].detail == "the ledger knows 48 of 48 patients"
        assert checks["rollback"].detail == "all 1 heads of the audit log are in the ledger"

    def test_what_the_policy_grants_of_secure_sums_is_said(self, begun, checks_of):
        assert "grants epsilon 8, no secure sums without partners, " in checks_of()["policy"].detail
        begun.change_policy(partners={"WFU": "ab" * 32, "ISMD": "cd" * 32})
        granted = "secure sums with ISMD, WFU (epsilon 16.5 to whoever breaks them), "
        assert granted in checks_of()["policy"].detail
        begun.change_policy(secure_sum="refuse")
        assert "refuses secure sums, " in checks_of()["policy"].detail

    def test_who_demands_secure_sums_needs_partners(self, begun, checks_of):
        begun.change_policy(secure_sum="demand")
        (detail,) = self.failed(checks_of()).values()
        assert detail == f"Expected partners in {begun.site.policy}, since secure_sum: demand refuses every other run."

    def test_an_engine_that_the_policy_allows_is_installed(self, begun, checks_of, monkeypatch):
        begun.change_policy(fields={"model.modality": ["clinical"], "model.feature_engine": ["openvino"]})
        assert self.failed(checks_of()) == {}
        monkeypatch.setattr(openvino_encoder, "find_spec", lambda name: None)
        (detail,) = self.failed(checks_of()).values()
        assert detail.startswith("Expected onnx and openvino for model.feature_engine=openvino; install them with pip")

    def test_too_few_patients(self, begun, checks_of):
        begun.change_policy(min_patients=44)
        assert self.failed(checks_of()) == {"training patients": "Expected training patients=43 >= min_patients=44."}

    def test_one_class(self, begun, checks_of):
        begun.write_table([row | {"label": 0} for row in rows_of(PATIENTS, num_test=5)])
        (detail,) = self.failed(checks_of()).values()
        assert "Expected train patients of both classes" in detail

    def test_too_many_rejected_rows(self, begun, checks_of):
        rows = rows_of(PATIENTS, num_test=5)
        begun.write_table([row | {"label": 9} if number in (6, 8, 10) else row for number, row in enumerate(rows)])
        (detail,) = self.failed(checks_of()).values()
        assert "Expected rejected rows 3 of 48" in detail

    def test_rejected_rows_and_cells_taken_as_missing_are_shown(self, begun, checks_of):
        rows = rows_of(PATIENTS, num_test=5)
        changed = {6: {"label": 9}, 8: {"breast_density": 9}, 9: {"breast_density": "?"}}
        begun.write_table([row | changed.get(number, {}) for number, row in enumerate(rows)])
        check = checks_of()["data"]
        assert check.status is Status.WARNING
        assert check.detail.startswith(
            "47 patients, 47 lesion views, 1 rows rejected; rejected: 1 x Expected label='9'"
        )
        assert "; 2 cells are not understood and count as missing: 2 x kept, the cell taken as missing" in check.detail

    def test_a_lesion_of_two_patients_is_a_doubt(self, begun, checks_of):
        """Both keep it, since neither may lose a lesion by the other; somebody should look."""
        rows = rows_of(PATIENTS, num_test=5)
        begun.write_table([*rows[:-1], rows[-1] | {"lesion_id": rows[7]["lesion_id"]}])
        checks = checks_of()
        assert self.failed(checks) == {}
        assert checks["data"].status is Status.WARNING
        assert "48 lesion views, 0 rows rejected; 1 lesion_id of several patients, such as" in checks["data"].detail

    def test_a_patient_of_two_sites_in_the_roster(self, begun, checks_of):
        roster = "patient_id,site\n" + "".join(f"{patient},MGH\n" for patient in PATIENTS)
        (begun.table.parent / "who.csv").write_text(f"{roster}{PATIENTS[7].lower()},WFU\n")
        begun.change(roster="who.csv")
        assert "Expected one site for every patient in who.csv" in self.failed(checks_of())["data"]

    def test_a_size_that_is_no_longer_true_is_an_alarm(self, begun, checks_of):
        begun.write_table(rows_of(PATIENTS[:44], num_test=5))
        assert self.failed(checks_of()) == {
            "declared size": "Alarm: expected declared_patients=40 <= 39 training patients of today."
        }

    def test_somebody_who_withdrew_does_not_count(self, begun, checks_of):
        for patient in PATIENTS[-4:]:
            withdraw(begun.site, patient)
        assert set(self.failed(checks_of())) == {"declared size"}

    def test_no_declared_size_says_which_to_set(self, begun, checks_of):
        begun.change_policy(declared_patients=None)
        (detail,) = self.failed(checks_of()).values()
        assert detail.endswith("this site's number is 40.")

    def test_two_spellings_in_one_table(self, begun, checks_of):
        rows = rows_of(PATIENTS, num_test=5)
        begun.write_table([*rows, rows[7] | {"patient_id": "p00007 ", "lesion_id": "another"}])
        (detail,) = self.failed(checks_of()).values()
        assert detail == "Expected one spelling of every patient_id, got several of 1 patients."

    def test_a_table_that_was_saved_again(self, begun, checks_of):
        """A spreadsheet made P00007 of p7; the ledger counts her as one, and says that something is wrong."""
        begun.write_table(rows_of([patient.lower().replace("0000", "") for patient in PATIENTS], num_test=5))
        checks = checks_of()
        assert self.failed(checks) == {
            "identifiers": "Expected the patients spelt as before, got 48 spelt in another way."
        }
        assert "--accept-spellings" in checks["identifiers"].remedy
        remember_spellings(begun.site)
        assert self.failed(checks_of()) == {}

    def test_new_identifiers_for_everybody(self, begun, checks_of):
        assert not begun.ask().has_error()
        begun.write_table(rows_of([f"X{number}" for number in range(48)], num_test=5))
        check = checks_of()["identifiers"]
        assert check.status is Status.WARNING
        assert "the ledger knows 0 of 48 patients, and has releases" in check.detail

    def test_some_new_patients_are_normal(self, begun, checks_of):
        assert not begun.ask().has_error()
        begun.write_table(rows_of([*PATIENTS, "new 1", "new 2"], num_test=5))
        assert checks_of()["identifiers"].status is Status.OK


class TestLedger:
    def test_no_ledger_is_created(self, kit):
        checks = {check.name: check for check in preflight(kit.site)}
        assert not kit.site.ledger.exists()
        assert "fedmammo site init" in checks["ledger"].detail
        assert checks["data"].status is Status.OK
        assert main(["site", "start", "--site", str(kit.path)]) == 1
        assert not kit.site.ledger.exists()

    def test_a_mistyped_path(self, begun):
        Ledger.create(begun.folder / "other.sqlite")
        begun.change(ledger="other.sqlite")
        checks = {check.name: check for check in preflight(begun.site)}
        failed = {name for name, check in checks.items() if check.status is Status.FAILED}
        assert failed == {"ledger identity", "rollback"}
        assert checks["ledger identity"].remedy == "correct the path of the ledger in site.yaml"

    def test_a_ledger_that_moved(self, begun):
        Ledger(begun.site.ledger).move_to(begun.folder / "elsewhere")
        checks = {check.name: check for check in preflight(begun.site)}
        assert checks["ledger"].status is Status.FAILED
        assert f"it goes on in {begun.folder}/elsewhere/ledger.sqlite" in checks["ledger"].detail


def test_a_layer_whose_rows_depend_on_their_place_is_seen(begun, monkeypatch):
    forward = RowwiseLinear.forward
    # Of a last layer that begins at zero, as a new network's does, this would leave zeros.
    place = 1 + 1e-6 * torch.arange(ROWS_PER_PASS).unsqueeze(1)
    monkeypatch.setattr(RowwiseLinear, "forward", lambda layer, rows: forward(layer, rows) * place)
    (check,) = (check for check in preflight(begun.site) if check.name == "arithmetic")
    assert check.status is Status.WARNING
    assert "positions of a batch differ" in check.detail


def test_a_machine_whose_rows_depend_on_their_place_is_slow_and_may_start(begun, monkeypatch):
    monkeypatch.setattr(arithmetic_check, "positions_agree", lambda *_: False)
    checks = preflight(begun.site)
    assert {check.name for check in checks if check.status is Status.WARNING} == {"arithmetic", "server"}
    assert may_start(checks)
