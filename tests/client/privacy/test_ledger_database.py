"""The tables of a ledger: entries, members, stored replies, keys of noise, spellings."""

import fcntl
import hashlib
import shutil
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from client.privacy import ledger_database as database
from client.privacy import ledger_files as files
from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import FORMAT, CohortAdded, Opened, parse_entry, to_row
from client.privacy.ledger_files import write_head
from client.privacy.pseudonyms import Cohort
from shared_model.errors import LedgerError
from shared_model.system.hash_chain import FIRST_PREVIOUS

WRITER = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute("BEGIN EXCLUSIVE")
"""
"""Another process that wants to write at once."""
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
    write_head(path, ENTRIES[-1])
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


class TestLocks:
    def test_nobody_writes_while_a_report_is_read_though_a_request_looks_at_the_file(self, tmp_path, monkeypatch):
        """The request has looked, or waits for the lock; then another process tries to write."""
        ledger, decided, answers = Ledger.create(tmp_path / "ledger.sqlite"), threading.Event(), []
        verified, counter, lock = database.verified_history, files.change_counter, fcntl.flock

        def look(path):
            found = counter(path)
            decided.set()
            return found

        def wait(handle, operation):
            try:
                lock(handle, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                decided.set()
                lock(handle, operation)

        def read_beside_a_request(connection, path):
            history = verified(connection, path)
            answers.append(pool.submit(ledger.history))
            decided.wait()
            answers.append(subprocess.run([sys.executable, "-c", WRITER, path], capture_output=True, text=True))  # noqa: PLW1510, S603
            return history

        monkeypatch.setattr(files, "change_counter", look)
        monkeypatch.setattr(fcntl, "flock", wait)
        monkeypatch.setattr(database, "verified_history", read_beside_a_request)
        with ThreadPoolExecutor(1) as pool:
            history = database.read_history(tmp_path / "ledger.sqlite")
        request, writer = answers
        assert request.result().entries == history.entries
        assert "database is locked" in writer.stderr


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


class TestNoiseKeys:
    def test_a_key_is_kept_until_it_is_deleted_and_leaves_no_bytes(self, path):
        keys = {number: hashlib.sha256(bytes([number])).digest() for number in range(1, 250)}
        connection = database.connect(path, mode="rw")
        database.begin(connection)
        for number, key in keys.items():
            database.insert_noise_key(connection, number, key)
        connection.commit()
        assert all(database.read_noise_key(connection, number) == key for number, key in keys.items())
        assert database.read_noise_key(connection, 250) is None
        for number, key in keys.items():
            database.begin(connection)
            database.delete_noise_key(connection, number)
            connection.commit()
            assert database.read_noise_key(connection, number) is None
            assert not any(key in file.read_bytes() for file in path.parent.iterdir())
        connection.close()


class TestSpellings:
    def test_every_spelling_is_remembered_once(self, connection):
        for _ in range(2):
            database.insert_spellings(connection, {b"one": b"a", b"two": b"b"})
        database.insert_spellings(connection, {b"one": b"c"})
        assert database.read_spellings(connection) == {b"one": {b"a", b"c"}, b"two": {b"b"}}


class TestDurability:
    def test_a_commit_ends_with_an_empty_journal(self, path, connection):
        """Emptied, not overwritten at its head: nothing of an earlier page may stay behind."""
        database.begin(connection)
        database.insert_spellings(connection, {b"one": b"a"})
        connection.commit()
        assert path.with_name(f"{path.name}-journal").stat().st_size == 0
        settings = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("synchronous", "secure_delete")]
        assert settings == [(3,), (1,)]

    def test_a_crash_half_way_is_read_without_writing(self, path, connection, tmp_path):
        """What a killed writer leaves is undone in a copy; the ledger itself may lie where nobody can write."""
        connection.execute("PRAGMA cache_spill = 1")
        database.begin(connection)
        connection.execute("PRAGMA cache_size = 1")
        for number in range(100):
            database.insert_reply(connection, number, bytes(4096))
        folder = tmp_path / "found"
        folder.mkdir()
        for file in path.parent.glob("ledger.sqlite*"):
            shutil.copyfile(file, folder / file.name)
        connection.rollback()
        found = folder / path.name
        journal = found.with_name(f"{found.name}-journal")
        assert journal.stat().st_size > 0
        journal.write_bytes(bytes.fromhex("d9d505f920a163d7") + journal.read_bytes()[8:])
        before = {file.name: file.read_bytes() for file in folder.iterdir()}
        folder.chmod(0o500)
        assert database.read_history(found).entries == ENTRIES
        folder.chmod(0o700)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
