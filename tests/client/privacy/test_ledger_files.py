"""What lies beside a ledger's database: head, lock and space."""

import fcntl
import json
from datetime import UTC, datetime

import pytest

from client.privacy import ledger_files as files
from client.privacy.ledger_entries import FORMAT, CohortAdded, Opened, parse_entry, to_row
from shared_model.errors import LedgerError
from shared_model.system.hash_chain import FIRST_PREVIOUS


def entries_of(*contents):
    entries, previous = [], FIRST_PREVIOUS
    for number, content in enumerate(contents, start=1):
        row = to_row(content, sequence=number, time=datetime(2026, 1, 1, tzinfo=UTC), previous=previous)
        entries.append(parse_entry(row))
        previous = row.digest
    return tuple(entries)


ENTRIES = entries_of(
    Opened(ledger="name", key_check="check", format=FORMAT), CohortAdded(cohort="cohort", num_patients=2)
)


@pytest.fixture
def path(tmp_path):
    """Where a ledger of two entries would lie; its head is there."""
    files.write_head(tmp_path / "ledger.sqlite", ENTRIES[-1])
    return tmp_path / "ledger.sqlite"


class TestHead:
    def test_it_is_read_as_it_was_written(self, path):
        assert files.read_head(path) == (2, ENTRIES[-1].digest)
        assert json.loads(files.head_path(path).read_bytes()) == {"sequence": 2, "digest": ENTRIES[-1].digest}

    def test_no_head(self, tmp_path):
        assert files.read_head(tmp_path / "ledger.sqlite") is None

    @pytest.mark.parametrize(
        "content", ["", "[]", "{}", '{"sequence": "x", "digest": "y"}', '{"sequence": 1}', "\udcff"]
    )
    def test_a_damaged_head(self, path, content):
        files.head_path(path).write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(LedgerError, match="Expected sequence and digest in"):
            files.read_head(path)

    def test_a_head_that_is_right_is_not_written_again(self, path):
        before = files.head_path(path).stat().st_ino
        files.write_head(path, ENTRIES[-1])
        assert files.head_path(path).stat().st_ino == before
        files.write_head(path, ENTRIES[0])
        assert files.read_head(path) == (1, ENTRIES[0].digest)

    def test_younger_entries_may_follow(self, path):
        files.check_head((1, ENTRIES[0].digest), ENTRIES, path)
        # A crash between the first commit and the first head.
        files.check_head(None, ENTRIES[:1], path)

    @pytest.mark.parametrize("head", [(0, "x"), (3, ENTRIES[1].digest), (1, ENTRIES[1].digest), (2, ENTRIES[0].digest)])
    def test_an_entry_that_is_gone(self, path, head):
        with pytest.raises(LedgerError, match=rf"Expected entry {head[0]} of the ledger .* cut short or replaced"):
            files.check_head(head, ENTRIES, path)

    def test_a_lost_head(self, path):
        with pytest.raises(LedgerError, match=r"Expected the file .*ledger\.sqlite\.head beside the ledger"):
            files.check_head(None, ENTRIES, path)

    def test_no_entries(self, path):
        with pytest.raises(LedgerError, match=r"Expected entries in the ledger .*, found none"):
            files.check_head(None, (), path)


class TestLock:
    def test_it_is_held_inside_and_free_afterwards(self, tmp_path):
        path = tmp_path / "deep" / "ledger.sqlite"
        with (
            files.locked(path),
            path.with_name("ledger.sqlite.lock").open("r+") as file,
            pytest.raises(BlockingIOError, match="temporarily unavailable"),
        ):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with path.with_name("ledger.sqlite.lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_an_error_inside_passes_and_frees_it(self, tmp_path):
        path = tmp_path / "ledger.sqlite"
        with pytest.raises(KeyError, match="mine"), files.locked(path):
            raise KeyError("mine")
        with files.locked(path):
            pass

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(LedgerError, match="that can be read and written"), files.locked(tmp_path / "file" / "l"):
            pass

    def test_a_reader_waits_for_no_other_reader_and_writes_nothing(self, tmp_path):
        path = tmp_path / "ledger.sqlite"
        with files.read_locked(path):
            assert list(tmp_path.iterdir()) == []
        with files.locked(path):
            pass
        with (
            files.read_locked(path),
            files.read_locked(path),
            files.lock_path(path).open() as file,
            pytest.raises(BlockingIOError, match="temporarily unavailable"),
        ):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class TestSpace:
    @pytest.mark.parametrize("num_bytes", [0, 1, 10**6])
    def test_it_is_on_the_disk_until_it_is_given_back(self, tmp_path, num_bytes):
        path = tmp_path / "ledger.sqlite"
        files.take_space(path, num_bytes)
        assert files.space_path(path).stat().st_blocks * 512 >= max(1, num_bytes)
        files.free_space(path)
        files.free_space(path)
        assert list(tmp_path.iterdir()) == []

    def test_a_disk_without_it(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.posix_fallocate", full)
        with pytest.raises(LedgerError, match=r"Expected 9 bytes of disk for the reply beside .* No space left"):
            files.take_space(tmp_path / "ledger.sqlite", 9)


def test_every_file_of_a_ledger_is_named(tmp_path):
    path = tmp_path / "ledger.sqlite"
    assert {file.name.removeprefix(path.name) for file in files.ledger_files(path)} == {
        "", ".head", ".key", ".key.new", ".space", ".lock", "-journal",
    }  # fmt: skip
