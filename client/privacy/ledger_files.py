"""The files beside a ledger's database: its head, its key, its lock, and space for the next reply.

The head is a small file with number and digest of the last entry. The chain alone cannot show that its end was cut
off; the head can.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.privacy.ledger_entries import Entry
from shared_model.errors import LedgerError
from shared_model.system.files import write_atomically


@contextmanager
def as_ledger_error(path: Path) -> Iterator[None]:
    """Turn errors of the disk and of SQLite into ``LedgerError``."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(f"Expected a ledger at {path} that can be read and written: {error}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes and threads out of the ledger at ``path``; waits until they are gone.

    Raises:
        LedgerError: the lock file cannot be written.
    """
    with as_ledger_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock_path(path), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with as_ledger_error(path):
            # The kernel drops the lock with the process, so that a crash leaves none behind.
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def read_locked(path: Path) -> Iterator[None]:
    """Keep writers out of the ledger at ``path`` without writing anything; without a lock file there is none."""
    try:
        handle = os.open(lock_path(path), os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def take_space(path: Path, num_bytes: int) -> None:
    """Take disk space beside the ledger at ``path``, until ``free_space`` gives it back.

    Budget that is spent for a reply that no disk can hold is spent in vain.

    Raises:
        LedgerError: the disk has no such space.
    """
    try:
        handle = os.open(space_path(path), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(handle, 0, max(1, num_bytes))
        finally:
            os.close(handle)
    except OSError as error:
        raise LedgerError(f"Expected {num_bytes} bytes of disk for the reply beside {path}: {error}") from error


def free_space(path: Path) -> None:
    """Give back what ``take_space`` took, for the reply itself to use."""
    space_path(path).unlink(missing_ok=True)


def file_state(path: Path) -> tuple[int, ...]:
    """Return what changes when somebody writes to the file; its clock is too coarse to tell quick writers apart."""
    state = path.stat()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def change_counter(path: Path) -> bytes:
    """Return what every transaction that changes the database raises by one, whatever clock and size say.

    Only for who holds the ledger's lock and no connection: closing the file drops the locks that SQLite has on it in
    this process.
    """
    with path.open("rb") as file:
        # SQLite file format, 1.3.7.
        file.seek(24)
        return file.read(4)


def read_head(path: Path) -> tuple[int, str] | None:
    """Return number and digest of the last entry, as the file beside the ledger at ``path`` has it; None without one.

    Raises:
        LedgerError: the file holds something else.
    """
    try:
        values = json.loads(head_path(path).read_bytes())
        return int(values["sequence"]), str(values["digest"])
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"Expected sequence and digest in {head_path(path)}: {error}") from error


def write_head(path: Path, last: Entry) -> None:
    """Move the head forward to the entry ``last``, if it is not there already."""
    if read_head(path) != (last.sequence, last.digest):
        write_atomically(head_path(path), json.dumps({"sequence": last.sequence, "digest": last.digest}).encode())


def check_head(head: tuple[int, str] | None, entries: tuple[Entry, ...], path: Path) -> None:
    """Check that the last known entry is still there; younger ones may follow, if a crash kept the head behind.

    Raises:
        LedgerError: it is not, there are no entries, or the head is lost.
    """
    if not entries:
        raise LedgerError(f"Expected entries in the ledger {path}, found none.")
    if head is None:
        if len(entries) > 1:
            raise LedgerError(f"Expected the file {head_path(path)} beside the ledger; an earlier one of it will do.")
        return
    sequence, digest = head
    if not 1 <= sequence <= len(entries) or entries[sequence - 1].digest != digest:
        raise LedgerError(
            f"Expected entry {sequence} of the ledger {path} as its head has it: the ledger was cut short or replaced."
        )


def head_path(path: Path) -> Path:
    """Return where the head of the ledger at ``path`` lies."""
    return path.with_name(path.name + ".head")


def key_path(path: Path) -> Path:
    """Return where the key of the ledger at ``path`` lies."""
    return path.with_name(path.name + ".key")


def new_key_path(path: Path) -> Path:
    """Return where the key lies while the ledger at ``path`` is being created."""
    return path.with_name(path.name + ".key.new")


def lock_path(path: Path) -> Path:
    """Return the file whose lock the writer of the ledger at ``path`` holds."""
    return path.with_name(path.name + ".lock")


def space_path(path: Path) -> Path:
    """Return the file that holds space for the next reply."""
    return path.with_name(path.name + ".space")


def ledger_files(path: Path) -> tuple[Path, ...]:
    """Return every file that belongs to the ledger at ``path``, itself first; some may not exist."""
    journal = path.with_name(path.name + "-journal")
    return path, head_path(path), key_path(path), new_key_path(path), space_path(path), lock_path(path), journal
