"""``fedmammo site ledger``: what a person at a hospital is told, and what stands on disk afterwards."""

import shutil

import pytest

from client import site as site_module
from client.privacy.ledger import Ledger
from client.privacy.ledger_database import read_history
from shared_model.errors import LedgerError
from shared_model.system.process_lock import ProcessLock
from simulations.commands.app import main


def run(capsys, *arguments):
    """Run ``fedmammo site ledger`` and return its status and everything that it said."""
    status = main(["site", "ledger", *arguments])
    said = capsys.readouterr()
    return status, said.out + said.err


def answered(kit, **question):
    assert not kit.ask(**question).has_error()


def test_verify(begun, capsys):
    answered(begun)
    status, said = run(capsys, "verify")
    entries = read_history(begun.site.ledger).entries
    assert status == 0
    assert f"Verified: {len(entries)} entries, head {entries[-1].digest}; 2 heads of the audit log" in said


@pytest.mark.parametrize("damage", ["ledger", "head", "audit log"])
def test_verify_finds_what_was_changed(begun, capsys, damage):
    answered(begun)
    path = {
        "ledger": begun.site.ledger,
        "head": begun.folder / "ledger.sqlite.head",
        "audit log": begun.site.audit_log,
    }[damage]
    content = bytearray(path.read_bytes())
    position = content.rindex(b"training") if damage == "ledger" else len(content) // 2
    content[position] ^= 1
    path.write_bytes(bytes(content))
    status, said = run(capsys, "verify")
    assert status == 1
    assert said.startswith("error: Expected")


def test_a_backup_that_takes_the_ledgers_place_is_refused_until_recovered(begun, capsys):
    answered(begun)
    status, said = run(capsys, "backup", "copy")
    assert status == 0
    assert "fedmammo site ledger recover" in said
    answered(begun, server_round=2)
    for path in (begun.folder / "copy").iterdir():
        shutil.copy(path, begun.folder)
    site_module._open_ledger.cache_clear()
    status, said = run(capsys, "verify")
    assert status == 1
    assert "it was rolled back" in said
    assert main(["site", "start"]) == 1
    capsys.readouterr()
    status, said = run(capsys, "recover")
    assert status == 0
    assert "1 lost releases are entered as spent" in said
    assert run(capsys, "verify")[0] == 0


def test_a_backup_with_nothing_lost_goes_on(begun, capsys):
    answered(begun)
    assert run(capsys, "backup", "copy")[0] == 0
    for path in (begun.folder / "copy").iterdir():
        shutil.copy(path, begun.folder)
    assert run(capsys, "verify")[0] == 0


def test_move(begun, capsys):
    answered(begun)
    status, said = run(capsys, "move", "elsewhere")
    moved = begun.folder / "elsewhere" / "ledger.sqlite"
    assert status == 0
    assert f"Write into site.yaml: ledger: {moved}" in said
    # Here it grants nothing any more.
    status, said = run(capsys, "verify")
    assert status == 1
    assert f"it goes on in {moved}" in said
    with pytest.raises(LedgerError, match="Expected a ledger in force"):
        Ledger(begun.site.ledger).forget("P00007")
    begun.change(ledger=str(moved))
    assert run(capsys, "verify")[0] == 0
    answered(begun, server_round=2)
    assert len(read_history(moved).entries) > len(read_history(begun.folder / "ledger.sqlite").entries)


def test_a_site_that_runs_is_not_moved_and_may_be_backed_up(begun, capsys):
    with ProcessLock.take(begun.site.lock):
        for arguments in (["move", "elsewhere"], ["recover"]):
            status, said = run(capsys, *arguments)
            assert status == 1
            assert "Expected one process at a time in" in said
        assert run(capsys, "backup", "copy")[0] == 0
    assert not (begun.folder / "elsewhere").exists()


@pytest.mark.parametrize("name", ["backup", "move"])
def test_a_folder_in_use_is_refused(begun, capsys, name):
    (begun.folder / "used").mkdir()
    (begun.folder / "used" / "file").write_text("mine")
    status, said = run(capsys, name, "used")
    assert status == 1
    assert "to be a new or empty folder" in said
    answered(begun)


@pytest.mark.parametrize("arguments", [["verify"], ["backup", "copy"], ["move", "elsewhere"]])
def test_another_ledger_than_the_sites_own_is_left_alone(begun, capsys, arguments):
    Ledger.create(begun.folder / "other.sqlite")
    begun.change(ledger="other.sqlite")
    status, said = run(capsys, *arguments)
    assert status == 1
    assert "correct the path of the ledger in site.yaml" in said
