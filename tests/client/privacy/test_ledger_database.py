"""The files of a ledger: tables, head, lock and stored replies."""

import fcntl
import hashlib
import json
import sqlite3
from datetime import UTC, datetime

import pytest

from client.privacy import ledger_database as database
from client.privacy.ledger_entries import FORMAT, CohortAdded, Opened, parse_entry, to_row
from client.privacy.pseudonyms import Cohort
from shared_model.errors import LedgerError
from shared_model.system.hash_chain import FIRST_PREVIOUS

COHORT = Cohort.from_pseudonyms([bytes(16), bytes([1] * 16)])


def rows_of(*contents):
    rows, previous = [], FIRST_PREVIOUS
    for number, content in enumerate(contents, start=1):
        rows.append(to_row(content, sequence=number, time=datetime(2026, 1, 1, tzinfo=UTC), previous=previous))
        previous = rows[-1].digest
    return rows


ROWS = rows_of(
    Opened(ledger="name", key_check="check", format=FORMAT), CohortAdded(cohort=COHORT.fingerprint, num_patients=2)
)
ENTRIES = tuple(parse_entry(row) for row in ROWS)


@pytest.fixture
def path(tmp_path):
    """A ledger of two entries with its head."""
    path = tmp_path / "ledger.sqlite"
    path.touch()
    connection = database.connect(path, mode="rw")
    database.begin(connection)
    database.create_tables(connection)
    for row in ROWS:
        database.insert_entry(connection, row)
    database.insert_members(connection, COHORT)
    connection.commit()
    connection.close()
    database.write_head(path, ENTRIES[-1])
    return path


@pytest.fixture
def connection(path):
    connection = database.connect(path, mode="rw")
    yield connection
    connection.close()


class TestReading:
    def test_what_was_inserted_is_read(self, path):
        history = database.read_history(path)
        assert history.entries == ENTRIES
        assert history.members == {COHORT.fingerprint: COHORT.members}

    def test_reading_changes_nothing(self, path):
        before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
        database.read_history(path)
        assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before

    def test_no_ledger(self, tmp_path):
        with pytest.raises(LedgerError, match="Expected a ledger at"):
            database.read_history(tmp_path / "none")

    def test_another_file(self, tmp_path):
        (tmp_path / "notes").write_text("no database at all, but long enough to be read as one: " + "x" * 2000)
        with pytest.raises(LedgerError, match="that can be read and written: file is not a database"):
            database.read_history(tmp_path / "notes")

    def test_a_connection_to_read_cannot_write(self, path):
        connection = database.connect(path, mode="ro")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM entries")
        connection.close()

    def test_a_foreign_type_in_a_column_fails_like_any_change(self, path, connection):
        connection.execute("UPDATE entries SET body = CAST(body AS BLOB) || x'00' WHERE sequence = 2")
        with pytest.raises(LedgerError, match="Expected ledger entry 2 as it was written"):
            database.read_history(path)

    def test_tables_are_there_or_not_yet(self, path, tmp_path):
        assert database.has_tables(path)
        (tmp_path / "begun").touch()
        assert not database.has_tables(tmp_path / "begun")

    def test_whether_somebody_appended(self, path, connection):
        history = database.read_history(path)
        assert database.ends_with(connection, history)
        connection.execute("DELETE FROM entries WHERE sequence = 2")
        assert not database.ends_with(connection, history)


class TestHead:
    def test_it_is_read_as_it_was_written(self, path):
        assert database.read_head(path) == (2, ENTRIES[-1].digest)
        assert json.loads(database.head_path(path).read_bytes()) == {"sequence": 2, "digest": ENTRIES[-1].digest}

    def test_no_head(self, tmp_path):
        assert database.read_head(tmp_path / "ledger.sqlite") is None

    @pytest.mark.parametrize(
        "content", ["", "[]", "{}", '{"sequence": "x", "digest": "y"}', '{"sequence": 1}', "\udcff"]
    )
    def test_a_damaged_head(self, path, content):
        database.head_path(path).write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(LedgerError, match="Expected sequence and digest in"):
            database.read_head(path)

    def test_a_head_that_is_right_is_not_written_again(self, path):
        before = database.head_path(path).stat().st_ino
        database.write_head(path, ENTRIES[-1])
        assert database.head_path(path).stat().st_ino == before
        database.write_head(path, ENTRIES[0])
        assert database.read_head(path) == (1, ENTRIES[0].digest)

    def test_younger_entries_may_follow(self, path):
        database.check_head((1, ENTRIES[0].digest), ENTRIES, path)
        # A crash between the first commit and the first head.
        database.check_head(None, ENTRIES[:1], path)

    @pytest.mark.parametrize("head", [(0, "x"), (3, ENTRIES[1].digest), (1, ENTRIES[1].digest), (2, ENTRIES[0].digest)])
    def test_an_entry_that_is_gone(self, path, head):
        with pytest.raises(LedgerError, match=rf"Expected entry {head[0]} of the ledger .* cut short or replaced"):
            database.check_head(head, ENTRIES, path)

    def test_a_lost_head(self, path):
        with pytest.raises(LedgerError, match=r"Expected the file .*ledger\.sqlite\.head beside the ledger"):
            database.check_head(None, ENTRIES, path)

    def test_no_entries(self, path):
        with pytest.raises(LedgerError, match=r"Expected entries in the ledger .*, found none"):
            database.check_head(None, (), path)


class TestReplies:
    def test_a_reply_is_read_as_it_was_stored(self, connection):
        database.insert_reply(connection, 3, b"\x00reply")
        assert database.read_reply(connection, 3, hashlib.sha256(b"\x00reply").hexdigest()) == b"\x00reply"
        assert database.read_reply(connection, 4, "") is None

    def test_a_changed_reply(self, connection):
        database.insert_reply(connection, 3, b"reply")
        with pytest.raises(LedgerError, match="Expected the reply of ledger entry 3 as it was written"):
            database.read_reply(connection, 3, hashlib.sha256(b"another").hexdigest())

    @pytest.mark.parametrize(("size", "kept"), [(10, [1, 2, 3, 4]), (40, [3, 4]), (60, [4]), (500, [4])])
    def test_the_oldest_go_first_and_the_newest_stays(self, connection, monkeypatch, size, kept):
        monkeypatch.setattr(database, "MAX_REPLY_BYTES", 100)
        for number in range(1, 5):
            database.insert_reply(connection, number, bytes(size))
        stored = connection.execute("SELECT reservation FROM replies ORDER BY reservation").fetchall()
        assert stored == [(number,) for number in kept]


class TestLock:
    def test_it_is_held_inside_and_free_afterwards(self, tmp_path):
        path = tmp_path / "deep" / "ledger.sqlite"
        with (
            database.locked(path),
            path.with_name("ledger.sqlite.lock").open("r+") as file,
            pytest.raises(BlockingIOError, match="temporarily unavailable"),
        ):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with path.with_name("ledger.sqlite.lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_an_error_inside_passes_and_frees_it(self, tmp_path):
        path = tmp_path / "ledger.sqlite"
        with pytest.raises(KeyError, match="mine"), database.locked(path):
            raise KeyError("mine")
        with database.locked(path):
            pass

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(LedgerError, match="that can be read and written"), database.locked(tmp_path / "file" / "l"):
            pass
