"""The files of a ledger: a SQLite database, and beside it the head, the key and the lock.

The head is a small file with number and digest of the last entry. The chain alone cannot show that its end was cut
off; the head can.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from client.privacy.ledger_entries import Entry, Row, read_entries
from client.privacy.ledger_history import History
from client.privacy.pseudonyms import Cohort
from shared_model.errors import LedgerError
from shared_model.system.files import write_atomically

MAX_REPLY_BYTES = 64 * 2**20
"""Replies kept for being sent again; the newest always is."""
_LOCK_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, previous TEXT NOT NULL,
    digest TEXT NOT NULL
);
CREATE TABLE members (
    cohort TEXT NOT NULL, pseudonym BLOB NOT NULL, PRIMARY KEY (cohort, pseudonym)
) WITHOUT ROWID;
CREATE TABLE replies (reservation INTEGER PRIMARY KEY, content BLOB NOT NULL);
"""
_COLUMNS = ("sequence", "time", "kind", "body", "previous", "digest")
# SQLite keeps whatever type was written; the casts let a foreign one fail the digest like any other change.
_ENTRIES = (
    "SELECT CAST(sequence AS INTEGER), CAST(time AS TEXT), CAST(kind AS TEXT), CAST(body AS TEXT), "
    "CAST(previous AS TEXT), CAST(digest AS TEXT) FROM entries ORDER BY sequence"
)
_MEMBERS = "SELECT CAST(cohort AS TEXT), CAST(pseudonym AS BLOB) FROM members"


def read_history(path: Path) -> History:
    """Return the verified history of the ledger at ``path``, without its key and without changing anything.

    Raises:
        LedgerError: there is none, it was changed, is damaged or cannot be read.
    """
    if not path.is_file():
        raise LedgerError(f"Expected a ledger at {path}.")
    with as_ledger_error(path), closing(connect(path, mode="ro")) as connection:
        # Entries and members must come from one moment: a client may be writing.
        connection.execute("BEGIN")
        return verified_history(connection, path)


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
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with as_ledger_error(path):
            # The kernel drops the lock with the process, so that a crash leaves none behind.
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def connect(path: Path, *, mode: str) -> sqlite3.Connection:
    """Return a connection in SQLite's ``mode``: ro to read, rw to write what exists."""
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_LOCK_SECONDS, isolation_level=None)


def begin(connection: sqlite3.Connection) -> None:
    """Begin a transaction that survives a power cut once it has been committed."""
    # PERSIST flushes the emptied journal as well, which DELETE does only with a flush of the folder (SQLite's
    # zeroJournalHdr).
    connection.execute("PRAGMA journal_mode = PERSIST")
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("BEGIN IMMEDIATE")


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables of a new ledger."""
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)


def has_tables(path: Path) -> bool:
    """Return whether the tables exist; a creation that a crash cut short leaves a file without them.

    Raises:
        LedgerError: the file is no database or cannot be read.
    """
    with as_ledger_error(path), closing(connect(path, mode="rw")) as connection:
        return bool(connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() != (0,))


def insert_entry(connection: sqlite3.Connection, row: Row) -> None:
    """Append one entry."""
    values = (row.sequence, row.time, row.kind, row.body, row.previous, row.digest)
    connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", values)


def insert_members(connection: sqlite3.Connection, cohort: Cohort) -> None:
    """Store who belongs to a cohort."""
    rows = [(cohort.fingerprint, pseudonym) for pseudonym in sorted(cohort.members)]
    connection.executemany("INSERT INTO members VALUES (?, ?)", rows)


def insert_reply(connection: sqlite3.Connection, reservation: int, reply: bytes) -> None:
    """Store the reply of a reservation, and drop the oldest replies beyond ``MAX_REPLY_BYTES``."""
    connection.execute("INSERT INTO replies VALUES (?, ?)", (reservation, reply))
    sizes: list[tuple[int, int]] = connection.execute(
        "SELECT reservation, LENGTH(content) FROM replies ORDER BY reservation DESC"
    ).fetchall()
    total = 0
    for position, (number, size) in enumerate(sizes):
        total += size
        if position and total > MAX_REPLY_BYTES:
            connection.execute("DELETE FROM replies WHERE reservation = ?", (number,))


def read_reply(connection: sqlite3.Connection, reservation: int, digest: str) -> bytes | None:
    """Return the reply of a reservation; None if it is no longer kept.

    Raises:
        LedgerError: its SHA-256 is not ``digest``: it was changed.
    """
    row = connection.execute("SELECT content FROM replies WHERE reservation = ?", (reservation,)).fetchone()
    if row is None:
        return None
    content = bytes(row[0])
    if hashlib.sha256(content).hexdigest() != digest:
        raise LedgerError(f"Expected the reply of ledger entry {reservation} as it was written.")
    return content


def verified_history(connection: sqlite3.Connection, path: Path) -> History:
    """Read everything and check the chain, its end and the cohorts.

    Raises:
        LedgerError: something was changed or is missing.
    """
    # First, so that a writer who finishes meanwhile cannot make the head younger than the entries.
    head = read_head(path)
    entries = read_entries([Row(**dict(zip(_COLUMNS, row, strict=True))) for row in connection.execute(_ENTRIES)])
    check_head(head, entries, path)
    members: dict[str, set[bytes]] = {}
    for cohort, pseudonym in connection.execute(_MEMBERS):
        members.setdefault(cohort, set()).add(pseudonym)
    return History(entries=entries, members={cohort: frozenset(pseudonyms) for cohort, pseudonyms in members.items()})


def ends_with(connection: sqlite3.Connection, history: History) -> bool:
    """Return whether nobody appended an entry since ``history``, which is all that a ledger's writers ever do."""
    last = connection.execute("SELECT sequence, digest FROM entries ORDER BY sequence DESC LIMIT 1").fetchone()
    return history.head is not None and last == (history.head.sequence, history.head.digest)


def file_state(path: Path) -> tuple[int, ...]:
    """Return what changes when somebody writes to the file; its clock is too coarse to tell quick writers apart."""
    state = path.stat()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


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
            raise LedgerError(f"Expected the file {head_path(path)} beside the ledger; restore it from a backup.")
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
