"""What a site has spent of its patients' privacy, on its own disk: reserve before, commit after, never refund.

Four files belong together: the ledger itself (SQLite), and beside it ``.key`` (the secret behind the pseudonyms),
``.head`` (the last entry's digest, so that a ledger cut short is noticed) and ``.lock`` (one writer at a time).

The order of writes is the guarantee. A reservation is on disk, flushed, before training reads an example; a reply is
on disk before it leaves. So a crash at any point leaves the budget spent or spent in vain, never spent and forgotten.
Who can write all four files can write another history; a signed report pins the head against that.

A process verifies the chain when it opens the ledger, and again whenever the file is not as it left it.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from client.privacy.ledger_entries import (
    FORMAT,
    CohortAdded,
    Committed,
    Content,
    Entry,
    History,
    Opened,
    Reserved,
    Row,
    Unprotected,
    entry_of,
    epsilon_of,
    read_entries,
    row_of,
)
from client.privacy.pseudonyms import Cohort, SiteKey
from shared_model.errors import BudgetError, LedgerError, ProtocolError
from shared_model.system.files import write_atomically
from shared_model.system.hash_chain import FIRST_PREVIOUS

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


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the site grants a patient in all, over every run there has ever been; null grants without limit."""

    max_epsilon: float | None
    max_delta: float
    """``max_epsilon`` holds at this delta."""


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Leave to make one release."""

    sequence: int
    epsilon: float
    """What the cohort has spent with it, at the release's delta, earlier runs included."""


@dataclass(frozen=True, kw_only=True)
class StoredReply:
    """The same request was answered before."""

    content: bytes


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What this process left on disk, so that it need not verify again what nobody touched."""

    file: tuple[int, ...]
    history: History


@dataclass(kw_only=True)
class _Transaction:
    """An open transaction and the history as it will be if it commits."""

    connection: sqlite3.Connection
    history: History

    def append(self, contents: Iterable[Content], cohort: Cohort | None = None) -> int:
        """Add entries, and the members of ``cohort`` with its first; return the last entry's sequence number."""
        head = self.history.head
        sequence, previous = (head.sequence, head.digest) if head else (0, FIRST_PREVIOUS)
        for content in contents:
            sequence += 1
            row = row_of(content, sequence=sequence, time=datetime.now(UTC), previous=previous)
            values = (row.sequence, row.time, row.kind, row.body, row.previous, row.digest)
            self.connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", values)
            members = dict(self.history.members)
            if isinstance(content, CohortAdded) and cohort is not None:
                members[cohort.fingerprint] = cohort.members
                rows = [(cohort.fingerprint, pseudonym) for pseudonym in sorted(cohort.members)]
                self.connection.executemany("INSERT INTO members VALUES (?, ?)", rows)
            self.history = History(entries=(*self.history.entries, entry_of(row)), members=members)
            previous = row.digest
        return sequence


class Ledger:
    """The ledger at ``path``; created with its key where there is none."""

    def __init__(self, path: Path) -> None:
        """Open and verify.

        Raises:
            LedgerError: it was changed, is damaged, belongs to another key, or cannot be written.
        """
        self.path = path
        self._known: _Known | None = None
        with self._locked():
            self._key = self._create() if self._is_new() else self._load_key()
            with self._transaction() as transaction:
                opened = transaction.history.entries[0].content
            if not isinstance(opened, Opened) or opened.key_check != self._key.check:
                raise LedgerError(f"Expected the key beside {path} that the ledger was begun with, found another.")

    def cohort(self, patients: Iterable[str]) -> Cohort:
        """Return the cohort of the patients with these identifiers."""
        return self._key.cohort(patients)

    def history(self) -> History:
        """Return the verified history.

        Raises:
            LedgerError: the ledger was changed or is damaged.
        """
        with self._locked(), self._transaction() as transaction:
            return transaction.history

    def reserve(self, release: Reserved, cohort: Cohort, limits: Limits) -> Reservation | StoredReply:
        """Take the budget of ``release``, or return what the same request was answered before.

        Formal guarantee: over all reservations of this ledger that returned, for every patient, the composition of
        those made on cohorts with that patient is at most ``limits.max_epsilon`` at ``limits.max_delta``; and of
        those of one run and purpose at most the run's ``target_epsilon`` at its ``delta``.

        Args:
            release: ``cohort`` must be ``cohort.fingerprint``.
            cohort: the patients whom the release may concern.
            limits: the site's own.

        Raises:
            BudgetError: not enough is left; the message says how much. Nothing is spent.
            ProtocolError: the request was answered so long ago that the reply is no longer kept.
            LedgerError: the ledger was changed, is damaged or cannot be written.
        """
        if release.cohort != cohort.fingerprint:
            raise ValueError("Expected release.cohort to be the cohort's fingerprint.")
        with self._locked(), self._transaction() as transaction:
            history = transaction.history
            answered = history.committed(release.request, release.cohort)
            if answered is not None:
                return _stored_reply(transaction.connection, answered)
            total = _within_budget(history.releases(cohort.members), release, limits)
            sequence = transaction.append([*_introduction(history, cohort), release], cohort)
        return Reservation(sequence=sequence, epsilon=total)

    def commit(self, reservation: Reservation, reply: bytes) -> None:
        """Record that ``reply`` is about to leave the site for ``reservation``; only then may it leave.

        Raises:
            LedgerError: the ledger was changed, is damaged or cannot be written.
        """
        with self._locked(), self._transaction() as transaction:
            transaction.connection.execute("INSERT INTO replies VALUES (?, ?)", (reservation.sequence, reply))
            _prune_replies(transaction.connection)
            digest = hashlib.sha256(reply).hexdigest()
            transaction.append([Committed(reservation=reservation.sequence, reply=digest)])

    def note_unprotected(self, release: Unprotected, cohort: Cohort, limits: Limits) -> None:
        """Record, once per run and purpose, that ``release`` reveals the cohort without bound.

        Raises:
            BudgetError: the site grants a bounded budget only.
            LedgerError: the ledger was changed, is damaged or cannot be written.
        """
        if release.cohort != cohort.fingerprint:
            raise ValueError("Expected release.cohort to be the cohort's fingerprint.")
        if limits.max_epsilon is not None:
            raise BudgetError(f"Expected a private release, as the site grants epsilon {limits.max_epsilon:g} in all.")
        with self._locked(), self._transaction() as transaction:
            history = transaction.history
            if all(entry.content != release for entry in history.entries):
                transaction.append([*_introduction(history, cohort), release], cohort)

    def _is_new(self) -> bool:
        """Return whether nothing was ever recorded; a creation that a crash cut short has recorded nothing."""
        if self.path.exists():
            with _as_ledger_error(self.path), closing(_connect(self.path, mode="rw")) as connection:
                if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() != (0,):
                    return False
        for path in (_head_path(self.path), _key_path(self.path)):
            if path.exists():
                raise LedgerError(f"Expected the ledger {self.path} beside {path.name}; restore it from a backup.")
        return True

    def _create(self) -> SiteKey:
        # The key gets its name last, so that a key without a ledger always means a lost ledger.
        path = _new_key_path(self.path)
        with _as_ledger_error(self.path):
            key = SiteKey.load(path) if path.exists() else SiteKey.create(path)
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))
        with self._transaction(is_new=True) as transaction:
            for statement in _SCHEMA.split(";"):
                transaction.connection.execute(statement)
            transaction.append([Opened(ledger=uuid.uuid4().hex, key_check=key.check, format=FORMAT)])
        return self._load_key()

    def _load_key(self) -> SiteKey:
        path, new = _key_path(self.path), _new_key_path(self.path)
        with _as_ledger_error(self.path):
            if new.exists() and not path.exists():
                new.replace(path)
            return SiteKey.load(path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes and threads out."""
        with _as_ledger_error(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with _as_ledger_error(self.path):
                # The kernel drops the lock with the process, so that a crash leaves none behind.
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _transaction(self, *, is_new: bool = False) -> Iterator[_Transaction]:
        """Verify; in the end commit, then move the head forward. An error rolls back."""
        with _as_ledger_error(self.path):
            with closing(_connect(self.path, mode="rw")) as connection:
                # A reservation must survive a power cut once it has returned. PERSIST flushes the emptied journal as
                # well, which DELETE does only with a flush of the folder (SQLite's zeroJournalHdr).
                connection.execute("PRAGMA journal_mode = PERSIST")
                connection.execute("PRAGMA synchronous = EXTRA")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    history = History(entries=(), members={}) if is_new else self._verified(connection)
                    transaction = _Transaction(connection=connection, history=history)
                    yield transaction
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
                self._move_head(transaction.history)
            self._known = _Known(file=_file_state(self.path), history=transaction.history)

    def _move_head(self, history: History) -> None:
        last = history.head
        if last is not None and _read_head(self.path) != (last.sequence, last.digest):
            head = {"sequence": last.sequence, "digest": last.digest}
            write_atomically(_head_path(self.path), json.dumps(head).encode())

    def _verified(self, connection: sqlite3.Connection) -> History:
        known = self._known
        if known is not None and known.file == _file_state(self.path) and _ends_with(connection, known.history):
            _check_head(_read_head(self.path), known.history.entries, self.path)
            return known.history
        history = _verified_history(connection, self.path)
        if known is not None and history.entries[: len(known.history.entries)] != known.history.entries:
            raise LedgerError(f"Expected the ledger {self.path} to go on from what this process left: it was replaced.")
        return history


def read_history(path: Path) -> History:
    """Return the verified history of the ledger at ``path``, without its key and without changing anything.

    Raises:
        LedgerError: there is none, it was changed, is damaged or cannot be read.
    """
    if not path.is_file():
        raise LedgerError(f"Expected a ledger at {path}.")
    with _as_ledger_error(path), closing(_connect(path, mode="ro")) as connection:
        # Entries and members must come from one moment: a client may be writing.
        connection.execute("BEGIN")
        return _verified_history(connection, path)


def _file_state(path: Path) -> tuple[int, ...]:
    """Return what changes when somebody writes to the file; its clock is too coarse to tell quick writers apart."""
    state = path.stat()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _ends_with(connection: sqlite3.Connection, history: History) -> bool:
    """Return whether nobody appended an entry since ``history``, which is all that a ledger's writers ever do."""
    last = connection.execute("SELECT sequence, digest FROM entries ORDER BY sequence DESC LIMIT 1").fetchone()
    return history.head is not None and last == (history.head.sequence, history.head.digest)


def _connect(path: Path, *, mode: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_LOCK_SECONDS, isolation_level=None)


@contextmanager
def _as_ledger_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(f"Expected a ledger at {path} that can be read and written: {error}") from error


def _verified_history(connection: sqlite3.Connection, path: Path) -> History:
    # First, so that a writer who finishes meanwhile cannot make the head younger than the entries.
    head = _read_head(path)
    entries = read_entries([Row(**dict(zip(_COLUMNS, row, strict=True))) for row in connection.execute(_ENTRIES)])
    _check_head(head, entries, path)
    members: dict[str, set[bytes]] = {}
    for cohort, pseudonym in connection.execute(_MEMBERS):
        members.setdefault(cohort, set()).add(pseudonym)
    return History(entries=entries, members={name: frozenset(found) for name, found in members.items()})


def _check_head(head: tuple[int, str] | None, entries: tuple[Entry, ...], path: Path) -> None:
    """Check that the last known entry is still there; younger ones may follow, if a crash kept the head behind."""
    if not entries:
        raise LedgerError(f"Expected entries in the ledger {path}, found none.")
    if head is None:
        if len(entries) > 1:
            raise LedgerError(f"Expected the file {_head_path(path)} beside the ledger; restore it from a backup.")
        return
    sequence, digest = head
    if not 1 <= sequence <= len(entries) or entries[sequence - 1].digest != digest:
        raise LedgerError(
            f"Expected entry {sequence} of the ledger {path} as its head has it: the ledger was cut short or replaced."
        )


def _read_head(path: Path) -> tuple[int, str] | None:
    try:
        values = json.loads(_head_path(path).read_bytes())
        return int(values["sequence"]), str(values["digest"])
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"Expected sequence and digest in {_head_path(path)}: {error}") from error


def _head_path(path: Path) -> Path:
    return path.with_name(path.name + ".head")


def _key_path(path: Path) -> Path:
    return path.with_name(path.name + ".key")


def _new_key_path(path: Path) -> Path:
    return path.with_name(path.name + ".key.new")


def _introduction(history: History, cohort: Cohort) -> list[Content]:
    if cohort.fingerprint in history.members:
        return []
    return [CohortAdded(cohort=cohort.fingerprint, num_patients=len(cohort.members))]


def _stored_reply(connection: sqlite3.Connection, answered: Committed) -> StoredReply:
    found = connection.execute("SELECT content FROM replies WHERE reservation = ?", (answered.reservation,)).fetchone()
    if found is None:
        raise ProtocolError("Expected a request that is new or recent; the reply to this one is no longer kept.")
    content = bytes(found[0])
    if hashlib.sha256(content).hexdigest() != answered.reply:
        raise LedgerError(f"Expected the reply of ledger entry {answered.reservation} as it was written.")
    return StoredReply(content=content)


def _within_budget(spent: tuple[Reserved | Unprotected, ...], release: Reserved, limits: Limits) -> float:
    """Return the epsilon of ``spent`` and ``release`` at the release's delta, if both promises hold."""
    same_run = [past for past in spent if past.run == release.run and past.purpose == release.purpose]
    in_run = epsilon_of([*same_run, release], release.delta)
    if not in_run <= release.target_epsilon:
        raise BudgetError(
            f"Expected this run to keep its promise of epsilon {release.target_epsilon:g}: it would reach {in_run:.3f} "
            f"with {len(same_run) + 1} releases."
        )
    if limits.max_epsilon is not None:
        before, after = (epsilon_of(part, limits.max_delta) for part in (spent, [*spent, release]))
        if not after <= limits.max_epsilon:
            raise BudgetError(
                f"Expected epsilon {after:.3f} <= {limits.max_epsilon:g} at delta {limits.max_delta:g}: these patients "
                f"have spent {before:.3f}, {max(0.0, limits.max_epsilon - before):.3f} is left."
            )
    return epsilon_of([*spent, release], release.delta)


def _prune_replies(connection: sqlite3.Connection) -> None:
    """Drop the oldest replies beyond ``MAX_REPLY_BYTES``."""
    sizes: list[tuple[int, int]] = connection.execute(
        "SELECT reservation, LENGTH(content) FROM replies ORDER BY reservation DESC"
    ).fetchall()
    total = 0
    for position, (reservation, size) in enumerate(sizes):
        total += size
        if position and total > MAX_REPLY_BYTES:
            connection.execute("DELETE FROM replies WHERE reservation = ?", (reservation,))
