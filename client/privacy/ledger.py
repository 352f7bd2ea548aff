"""What a site has spent of its patients' privacy, on its own disk: reserve before, commit after, never refund.

Four files belong together: the ledger itself (SQLite), and beside it ``.key`` (the secret behind the pseudonyms),
``.head`` (the last entry's digest, so that a ledger cut short is noticed) and ``.lock`` (one writer at a time).

The order of writes is the guarantee. A reservation is on disk, flushed, before training reads an example; a reply is
on disk before it leaves. So after a crash at any point the budget counts as spent, whether or not a reply had left;
nothing that was released is ever forgotten. Who can write all four files can write another history; a signed report
that names the head shows it.

A process verifies the chain when it opens the ledger, and whenever the file is not as it left it.
"""

import hashlib
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from client.privacy import ledger_database as database
from client.privacy.ledger_entries import (
    FORMAT,
    CohortAdded,
    Committed,
    Content,
    Opened,
    Reserved,
    Unprotected,
    parse_entry,
    to_row,
)
from client.privacy.ledger_history import History, Limits, epsilon_within_budget
from client.privacy.pseudonyms import Cohort, SiteKey
from shared_model.errors import BudgetError, LedgerError, ProtocolError
from shared_model.system.hash_chain import FIRST_PREVIOUS


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Permission to make one release, whose budget is spent already."""

    sequence: int
    epsilon: float
    """What the cohort has spent with it, at the release's delta, earlier runs included."""


@dataclass(frozen=True, kw_only=True)
class StoredReply:
    """The same request was answered before."""

    content: bytes


@dataclass(frozen=True, kw_only=True)
class _LastState:
    """What this process left on disk: what nobody touched since need not be verified again."""

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
            row = to_row(content, sequence=sequence, time=datetime.now(UTC), previous=previous)
            database.insert_entry(self.connection, row)
            members = dict(self.history.members)
            if isinstance(content, CohortAdded) and cohort is not None:
                members[cohort.fingerprint] = cohort.members
                database.insert_members(self.connection, cohort)
            self.history = History(entries=(*self.history.entries, parse_entry(row)), members=members)
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
        self._last_state: _LastState | None = None
        with database.locked(self.path):
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
        with database.locked(self.path), self._transaction() as transaction:
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
        with database.locked(self.path), self._transaction() as transaction:
            history = transaction.history
            answered = history.committed(release.request, release.cohort)
            if answered is not None:
                return _stored_reply(transaction.connection, answered)
            total = epsilon_within_budget(history.releases(cohort.members), release, limits)
            sequence = transaction.append([*_introduction(history, cohort), release], cohort)
        return Reservation(sequence=sequence, epsilon=total)

    def commit(self, reservation: Reservation, reply: bytes) -> None:
        """Record that ``reply`` is about to leave the site for ``reservation``; only then may it leave.

        Raises:
            LedgerError: the ledger was changed, is damaged or cannot be written.
        """
        with database.locked(self.path), self._transaction() as transaction:
            database.insert_reply(transaction.connection, reservation.sequence, reply)
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
        with database.locked(self.path), self._transaction() as transaction:
            history = transaction.history
            if all(entry.content != release for entry in history.entries):
                transaction.append([*_introduction(history, cohort), release], cohort)

    def _is_new(self) -> bool:
        """Return whether nothing was ever recorded; a creation that a crash cut short has recorded nothing."""
        if self.path.exists() and database.has_tables(self.path):
            return False
        for path in (database.head_path(self.path), database.key_path(self.path)):
            if path.exists():
                raise LedgerError(f"Expected the ledger {self.path} beside {path.name}; restore it from a backup.")
        return True

    def _create(self) -> SiteKey:
        # The key gets its name last, so that a key without a ledger always means a lost ledger.
        path = _new_key_path(self.path)
        with database.as_ledger_error(self.path):
            key = SiteKey.load(path) if path.exists() else SiteKey.create(path)
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))
        with self._transaction(is_new=True) as transaction:
            database.create_tables(transaction.connection)
            transaction.append([Opened(ledger=uuid.uuid4().hex, key_check=key.check, format=FORMAT)])
        return self._load_key()

    def _load_key(self) -> SiteKey:
        path, new = database.key_path(self.path), _new_key_path(self.path)
        with database.as_ledger_error(self.path):
            if new.exists() and not path.exists():
                new.replace(path)
            return SiteKey.load(path)

    @contextmanager
    def _transaction(self, *, is_new: bool = False) -> Iterator[_Transaction]:
        """Verify; in the end commit, then move the head forward. An error rolls back."""
        with database.as_ledger_error(self.path):
            with closing(database.connect(self.path, mode="rw")) as connection:
                database.begin(connection)
                try:
                    history = History(entries=(), members={}) if is_new else self._verified(connection)
                    transaction = _Transaction(connection=connection, history=history)
                    yield transaction
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
                if transaction.history.head is not None:
                    database.write_head(self.path, transaction.history.head)
            self._last_state = _LastState(file=database.file_state(self.path), history=transaction.history)

    def _verified(self, connection: sqlite3.Connection) -> History:
        last = self._last_state
        if (
            last is not None
            and last.file == database.file_state(self.path)
            and database.ends_with(connection, last.history)
        ):
            database.check_head(database.read_head(self.path), last.history.entries, self.path)
            return last.history
        history = database.verified_history(connection, self.path)
        if last is not None and history.entries[: len(last.history.entries)] != last.history.entries:
            raise LedgerError(f"Expected the ledger {self.path} to go on from what this process left: it was replaced.")
        return history


def _new_key_path(path: Path) -> Path:
    return path.with_name(path.name + ".key.new")


def _introduction(history: History, cohort: Cohort) -> list[Content]:
    """Return the entry that a cohort's first release needs before it."""
    if cohort.fingerprint in history.members:
        return []
    return [CohortAdded(cohort=cohort.fingerprint, num_patients=len(cohort.members))]


def _stored_reply(connection: sqlite3.Connection, answered: Committed) -> StoredReply:
    content = database.read_reply(connection, answered.reservation, answered.reply)
    if content is None:
        raise ProtocolError("Expected a request that is new or recent; the reply to this one is no longer kept.")
    return StoredReply(content=content)
