"""A ledger's database: SQLite tables of entries, cohorts, replies, and the keys of noise that was not yet released."""

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from client.privacy.cohorts import Cohorts, unlike_recorded
from client.privacy.ledger_entries import CohortAdded, Row, read_entries
from client.privacy.ledger_files import as_ledger_error, check_head, read_head, read_locked
from client.privacy.ledger_history import History
from client.privacy.pseudonyms import PSEUDONYM_BYTES, Cohort, unpack
from shared_model.errors import LedgerError

MAX_REPLY_BYTES = 64 * 2**20
"""Replies kept for being sent again; the newest always is."""
_LOCK_SECONDS = 30.0
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""A rollback journal that is in force begins with it (SQLite file format, 3)."""
_SCHEMA = """
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, previous TEXT NOT NULL,
    digest TEXT NOT NULL
);
CREATE TABLE members (
    cohort TEXT NOT NULL, pseudonym BLOB NOT NULL, PRIMARY KEY (cohort, pseudonym)
) WITHOUT ROWID;
CREATE TABLE replies (reservation INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE pending (reservation INTEGER PRIMARY KEY, noise_key BLOB NOT NULL);
CREATE TABLE spellings (
    pseudonym BLOB NOT NULL, spelling BLOB NOT NULL, PRIMARY KEY (pseudonym, spelling)
) WITHOUT ROWID;
"""
_COLUMNS = ("sequence", "time", "kind", "body", "previous", "digest")
# SQLite keeps whatever type was written; the casts let a foreign one fail the digest like any other change.
_ENTRIES = (
    "SELECT CAST(sequence AS INTEGER), CAST(time AS TEXT), CAST(kind AS TEXT), CAST(body AS TEXT), "
    "CAST(previous AS TEXT), CAST(digest AS TEXT) FROM entries ORDER BY sequence"
)
# A row a patient would take ten times as long to read, and to hold. The primary key has the pseudonyms in order.
_MEMBERS = (
    "SELECT CAST(cohort AS TEXT), COUNT(*), CAST(GROUP_CONCAT(CAST(pseudonym AS BLOB), '') AS BLOB) FROM members "
    "GROUP BY cohort"
)


def read_history(path: Path) -> History:
    """Return the verified history of the ledger at ``path``, without its key and without changing anything.

    Raises:
        LedgerError: there is none, it was changed, is damaged or cannot be read.
    """
    if not path.is_file():
        raise LedgerError(f"Expected a ledger at {path}.")
    with (
        as_ledger_error(path),
        # SQLite's own lock of a reader is gone as soon as this process closes the file anywhere else, as
        # ``change_counter`` does, which holds this lock alone (POSIX, fcntl: all locks of the process on the file).
        read_locked(path),
        _readable(path) as readable,
        closing(connect(readable, mode="ro")) as connection,
    ):
        # Entries and members must come from one moment: a client may be writing.
        connection.execute("BEGIN")
        return verified_history(connection, path)


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """Yield the locked ledger, or a copy where a crash left a transaction half-way, which only a writer may undo."""
    journal = path.with_name(path.name + "-journal")
    try:
        is_half_way = journal.read_bytes()[:8] == _JOURNAL_MAGIC
    except FileNotFoundError:
        is_half_way = False
    if not is_half_way:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / path.name
        for source in (path, journal):
            shutil.copyfile(source, copied.with_name(source.name))
        with closing(connect(copied, mode="rw")) as connection:
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        yield copied


def connect(path: Path, *, mode: str) -> sqlite3.Connection:
    """Return a connection in SQLite's ``mode``: ro to read, rw to write what exists."""
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_LOCK_SECONDS, isolation_level=None)


def begin(connection: sqlite3.Connection) -> None:
    """Begin a transaction that survives a power cut once it has been committed."""
    # TRUNCATE flushes the emptied journal (SQLite's pager_end_transaction) and leaves none of its bytes. PERSIST is as
    # durable with as many flushes, but its journal would still hold a noise key that this transaction deletes.
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute("PRAGMA synchronous = EXTRA")
    # Nor may the key linger in a free page of the database.
    connection.execute("PRAGMA secure_delete = ON")
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
    rows = [(cohort.fingerprint, pseudonym) for pseudonym in unpack(cohort.packed)]
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


def insert_noise_key(connection: sqlite3.Connection, reservation: int, noise_key: bytes) -> None:
    """Keep the key of a reservation's noise until its reply is stored."""
    connection.execute("INSERT INTO pending VALUES (?, ?)", (reservation, noise_key))


def read_noise_key(connection: sqlite3.Connection, reservation: int) -> bytes | None:
    """Return the key of a reservation that no reply was stored for; None if there is none."""
    row = connection.execute("SELECT noise_key FROM pending WHERE reservation = ?", (reservation,)).fetchone()
    return None if row is None else bytes(row[0])


def delete_noise_key(connection: sqlite3.Connection, reservation: int) -> None:
    """Forget the key: from here on nobody can compute the noise again."""
    connection.execute("DELETE FROM pending WHERE reservation = ?", (reservation,))


def insert_spellings(connection: sqlite3.Connection, spellings: Mapping[bytes, bytes]) -> None:
    """Remember how identifiers were spelt, by pseudonym."""
    connection.executemany("INSERT OR IGNORE INTO spellings VALUES (?, ?)", sorted(spellings.items()))


def read_spellings(connection: sqlite3.Connection) -> dict[bytes, set[bytes]]:
    """Return every spelling seen, by pseudonym."""
    spellings: dict[bytes, set[bytes]] = {}
    for pseudonym, spelling in connection.execute(
        "SELECT CAST(pseudonym AS BLOB), CAST(spelling AS BLOB) FROM spellings"
    ):
        spellings.setdefault(pseudonym, set()).add(spelling)
    return spellings


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
    # Nobody is a cohort too, and has no row.
    nobody = Cohort(packed=b"")
    cohorts = {c.cohort: nobody for e in entries if isinstance(c := e.content, CohortAdded)}
    for name, num_patients, packed in connection.execute(_MEMBERS):
        # A name that comes twice was written in two types; and two patients in one row would be nobody.
        if cohorts.get(name) is not nobody or len(packed or b"") != num_patients * PSEUDONYM_BYTES:
            raise unlike_recorded(str(name))
        cohorts[name] = Cohort(packed=packed)
    return History(entries=entries, members=Cohorts(cohorts))


def ends_with(connection: sqlite3.Connection, history: History) -> bool:
    """Return whether nobody appended an entry since ``history``, which is all that a ledger's writers ever do."""
    last = connection.execute("SELECT sequence, digest FROM entries ORDER BY sequence DESC LIMIT 1").fetchone()
    return history.head is not None and last == (history.head.sequence, history.head.digest)
