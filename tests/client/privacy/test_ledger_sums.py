"""What a ledger keeps of secure sums: one copy answers, none is lost on the way, and nobody can fill the disk."""

import dataclasses
import shutil
import sqlite3
from contextlib import closing

import pytest

from client.privacy import ledger_sums
from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import Agreed
from client.privacy.ledger_sums import SumRound
from shared_model.errors import LedgerError

AGREED_DIGEST = b"\x01" * 32
OFFERED = SumRound(roster=b"roster", seeds=b"seeds", offer=b"offer")
JOINED = SumRound(roster=b"roster", seeds=b"seeds", offer=b"offer", participants=b"list", request="asked", shares=b"{}")
AGREED = dataclasses.replace(JOINED, seeds=None, survivors=AGREED_DIGEST)


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "here" / "ledger.sqlite")


def settle(ledger, kept, *, run="run", server_round=1):
    """Keep ``kept`` of a round of which nothing is kept yet; return what is kept."""
    return ledger.settle_sum(run, server_round, lambda known: known.get(server_round, kept))


def agree(ledger, *, server_round=1):
    return ledger.settle_sum("run", server_round, lambda known: AGREED)


def num_rows(ledger):
    with closing(sqlite3.connect(ledger.path)) as connection:
        return connection.execute("SELECT COUNT(*) FROM sums").fetchone()[0]


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / "here").mkdir()


def test_a_retired_copy_answers_nothing_about_a_sum_and_its_successor_goes_on(ledger, tmp_path):
    """Two copies that answered would be two sites, which could each agree to another list."""
    settle(ledger, JOINED)
    moved = Ledger(ledger.move_to(tmp_path / "elsewhere"))
    for old in (ledger, Ledger(ledger.path)):
        with pytest.raises(LedgerError, match="in force"):
            settle(old, OFFERED)
        with pytest.raises(LedgerError, match="in force"):
            settle(old, OFFERED, server_round=2)
    assert settle(moved, OFFERED) == JOINED


def test_a_copy_has_the_rounds(ledger, tmp_path):
    settle(ledger, JOINED)
    assert settle(Ledger(ledger.back_up(tmp_path / "copy")), OFFERED) == JOINED


def test_a_ledger_that_was_rolled_back_goes_on_with_no_round_that_it_may_have_answered_since(ledger):
    settle(ledger, JOINED)
    ledger.enter_lost([], forgotten=[], patients=[])
    kept = settle(ledger, OFFERED)
    assert (kept.roster, kept.seeds) == (JOINED.roster, None)
    # No list has these digests, so that it joins none and agrees to none.
    assert (kept.participants, kept.survivors) == (b"", b"")
    assert settle(ledger, OFFERED, server_round=2) == OFFERED


def test_offers_that_lead_to_nothing_fill_no_disk_and_push_out_no_round_with_a_release(ledger, monkeypatch):
    monkeypatch.setattr(ledger_sums, "MOST_OPEN", 3)
    settle(ledger, JOINED, run="first")
    for number in range(6):
        settle(ledger, OFFERED, run=f"run {number}")
    assert num_rows(ledger) == 3 + 1
    other = SumRound(roster=b"another", seeds=b"others", offer=b"another")
    assert settle(ledger, other, run="first") == JOINED
    assert settle(ledger, other, run="run 5") == OFFERED
    assert settle(ledger, other, run="run 0") == other


class TestAgreement:
    """Which list was signed is an entry, so that a ledger put back behind it is found as one behind a release is."""

    def test_it_is_one_entry_a_round(self, ledger):
        settle(ledger, JOINED)
        entries = ledger.history().entries
        for _ in range(2):
            assert agree(ledger) == AGREED
        settle(ledger, OFFERED)
        (added,) = ledger.history().entries[len(entries) :]
        assert added.content == Agreed(run="run", server_round=1, survivors=AGREED_DIGEST.hex())
        agree(ledger, server_round=2)
        assert len(ledger.history().entries) == len(entries) + 2

    def test_a_database_put_back_behind_it_is_found(self, ledger, tmp_path):
        settle(ledger, JOINED)
        shutil.copy(ledger.path, tmp_path / "before")
        agree(ledger)
        shutil.copy(tmp_path / "before", ledger.path)
        with pytest.raises(LedgerError, match="as its head has it"):
            settle(ledger, OFFERED)
        with pytest.raises(LedgerError, match="as its head has it"):
            Ledger(ledger.path)

    @pytest.mark.parametrize(
        "change", ["DELETE FROM sums", "UPDATE sums SET survivors = NULL", "UPDATE sums SET survivors = X'02'"]
    )
    def test_rows_that_were_changed_are_found(self, ledger, change):
        agree(ledger)
        with closing(sqlite3.connect(ledger.path)) as connection, connection:
            connection.execute(change)
        with pytest.raises(LedgerError, match="Expected the list that this site signed in round 1"):
            settle(ledger, OFFERED)

    def test_a_closed_round_signs_nothing_and_is_no_damage(self, ledger):
        agree(ledger)
        ledger.enter_lost([], forgotten=[], patients=[])
        assert settle(ledger, OFFERED).survivors == b""
        assert settle(ledger, OFFERED, server_round=2) == OFFERED
