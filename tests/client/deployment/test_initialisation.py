"""How a site begins: one ledger in its life, a declared size, and nothing left where it fails."""

import pytest
import yaml

from client.deployment.initialisation import initialise
from client.deployment.ledger_identity import remembered_identity, require_identity
from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import Opened
from shared_model.errors import ConfigError, LedgerError, PrivacyError, TableError
from simulations.commands.app import main
from tests.hospital_kits import rows_of


def ledger_files_of(kit):
    return sorted(path.name for path in kit.folder.iterdir() if path.name.startswith("ledger"))


def policy_of(kit):
    return yaml.safe_load(kit.site.policy.read_text())


def test_a_site_begins(kit, capsys):
    before = kit.site.policy.read_text()
    assert main(["site", "init", "--site", str(kit.path)]) == 0
    assert "43 training patients, declared as 40" in capsys.readouterr().out
    ledger = Ledger(kit.site.ledger)
    (opened,) = ledger.history().entries
    assert isinstance(opened.content, Opened)
    assert kit.site.ledger_identity.read_text().strip() == ledger.name
    # One line of the policy changed, and its comments stay.
    changed = zip(before.splitlines(), kit.site.policy.read_text().splitlines(), strict=True)
    assert [pair for pair in changed if pair[0] != pair[1]] == [("declared_patients: null", "declared_patients: 40")]


def test_the_spellings_of_all_patients_are_remembered(kit):
    initialise(kit.site)
    found = Ledger(kit.site.ledger).recognise(["P00000", "p 1", "stranger"])
    assert (found.num_known, found.num_respelt, found.num_unknown) == (2, 1, 1)


def test_validation_patients_of_the_sites_own_choice_are_not_counted(kit):
    kit.change_policy(validation_fraction=0.5, min_cohort_rounding=1)
    begun = initialise(kit.site)
    assert 8 <= begun.num_training <= 36
    assert begun.declared_patients == begun.num_training == policy_of(kit)["declared_patients"]


def test_only_one_ledger_in_a_life(kit, capsys):
    initialise(kit.site)
    before = kit.site.ledger.read_bytes()
    assert main(["site", "init", "--site", str(kit.path)]) == 1
    assert "Expected a site that never began a ledger" in capsys.readouterr().err
    # Also where the ledger, or what remembers its name, is lost.
    identity = kit.site.ledger_identity.read_bytes()
    kit.site.ledger_identity.unlink()
    with pytest.raises(LedgerError, match=r"Expected no ledger at .* yet"):
        initialise(kit.site)
    assert kit.site.ledger.read_bytes() == before
    kit.site.ledger_identity.write_bytes(identity)
    kit.site.ledger.unlink()
    with pytest.raises(LedgerError, match="Get that one back"):
        initialise(kit.site)


@pytest.mark.parametrize(
    ("num_patients", "limits", "error", "reason"),
    [
        (9, {}, PrivacyError, "Expected at least min_cohort_rounding=10 training patients, found 9"),
        (48, {"declared_patients": 49}, ConfigError, "Expected declared_patients=49 <= 48 training patients here"),
    ],
)
def test_a_failure_leaves_no_ledger(kit, num_patients, limits, error, reason):
    kit.write_table(rows_of([f"P{number}" for number in range(num_patients)]))
    kit.change_policy(**limits)
    policy = kit.site.policy.read_bytes()
    with pytest.raises(error, match=reason):
        initialise(kit.site)
    assert ledger_files_of(kit) == []
    assert kit.site.policy.read_bytes() == policy
    assert remembered_identity(kit.site) is None


def test_tables_that_cannot_be_read_leave_no_ledger(kit):
    kit.table.write_text("patient,id\n")
    with pytest.raises(TableError, match="column"):
        initialise(kit.site)
    assert ledger_files_of(kit) == []


def test_a_number_that_the_hospital_chose_stays(kit):
    kit.change_policy(declared_patients=30)
    assert initialise(kit.site).declared_patients == 30
    assert policy_of(kit)["declared_patients"] == 30


def test_the_ledger_of_a_mistyped_path_is_another(kit):
    initialise(kit.site)
    require_identity(kit.site, Ledger(kit.site.ledger))
    other = Ledger.create(kit.folder / "other.sqlite")
    kit.change(ledger="other.sqlite")
    with pytest.raises(LedgerError, match="correct the path of the ledger"):
        require_identity(kit.site, other)
    kit.site.ledger_identity.unlink()
    with pytest.raises(LedgerError, match="Expected the name of this site's ledger in"):
        require_identity(kit.site, other)


def test_an_audit_log_that_cannot_be_written_leaves_nothing(kit):
    kit.site.state_dir.mkdir()
    kit.site.audit_log.mkdir()
    with pytest.raises(OSError, match="directory"):
        initialise(kit.site)
    assert ledger_files_of(kit) == []
    assert remembered_identity(kit.site) is None
