"""A ledger's files as one thing: locked, verified, changed by transactions, its head moved forward after each."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from client.privacy import ledger_database as database
from client.privacy import ledger_files as files
from client.privacy.ledger_entries import CohortAdded, Content, parse_entry, to_row
from client.privacy.ledger_history import History
from client.privacy.pseudonyms import Cohort
from shared_model.errors import LedgerError
from shared_model.system.hash_chain import FIRST_PREVIOUS


@dataclass(kw_only=True)
class Transaction:
    """An open transaction and the history as it will be if it commits."""

    connection: sqlite3.Connection
    history: History

    def append(self, content: Content, members: Cohort | None = None) -> int:
        """Add an entry, and the ``members`` of a cohort with the one that introduces it; return its number."""
        head = self.history.head
        sequence, previous = (head.sequence + 1, head.digest) if head else (1, FIRST_PREVIOUS)
        row = to_row(content, sequence=sequence, time=datetime.now(UTC), previous=previous)
        database.insert_entry(self.connection, row)
        cohorts = self.history.members
        if members is not None:
            cohorts = cohorts.with_added(members)
            database.insert_members(self.connection, members)
        self.history = History(entries=(*self.history.entries, parse_entry(row)), members=cohorts)
        return sequence

    def append_about(self, content: Content, cohort: Cohort) -> int:
        """Add an entry that concerns ``cohort``, which is introduced first if it is new; return its number."""
        if cohort.fingerprint not in self.history.members:
            self.append(CohortAdded(cohort=cohort.fingerprint, num_patients=len(cohort)), cohort)
        return self.append(content)


@dataclass(frozen=True, kw_only=True)
class _LastState:
    """What this process left on disk: what nobody touched since need not be verified again."""

    file: tuple[int, ...]
    counter: bytes
    history: History


class LedgerStore:
    """The ledger at ``path``, whose entries are verified whenever the file is not as this process left it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last_state: _LastState | None = None

    def history(self) -> History:
        """Return the verified history; the database is opened only if somebody changed it.

        Raises:
            LedgerError: the ledger was changed, is damaged or cannot be written.
        """
        with files.locked(self.path), files.as_ledger_error(self.path):
            last = self._last_state
            if last is not None and (last.file, last.counter) == self._file_state():
                files.check_head(files.read_head(self.path), last.history.entries, self.path)
                return last.history
        with self.transaction() as transaction:
            return transaction.history

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Lock and verify; in the end commit, then move the head forward. An error rolls back.

        Raises:
            LedgerError: the ledger was changed, is damaged, cannot be written, or was retired and is changed.
        """
        with files.locked(self.path), files.as_ledger_error(self.path):
            with closing(database.connect(self.path, mode="rw")) as connection:
                database.begin(connection)
                try:
                    history = self._verified(connection)
                    transaction = Transaction(connection=connection, history=history)
                    yield transaction
                    _require_in_force(history, transaction.history)
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
                if transaction.history.head is not None:
                    files.write_head(self.path, transaction.history.head)
            file, counter = self._file_state()
            self._last_state = _LastState(file=file, counter=counter, history=transaction.history)

    def _file_state(self) -> tuple[tuple[int, ...], bytes]:
        return files.file_state(self.path), files.change_counter(self.path)

    def _verified(self, connection: sqlite3.Connection) -> History:
        last = self._last_state
        is_untouched = last is not None and last.file == files.file_state(self.path)
        if last is not None and is_untouched and database.ends_with(connection, last.history):
            files.check_head(files.read_head(self.path), last.history.entries, self.path)
            return last.history
        history = database.verified_history(connection, self.path)
        if last is not None and history.entries[: len(last.history.entries)] != last.history.entries:
            raise LedgerError(f"Expected the ledger {self.path} to go on from what this process left: it was replaced.")
        return history


def _require_in_force(before: History, after: History) -> None:
    if before.is_retired and len(after.entries) > len(before.entries):
        raise LedgerError("Expected a ledger in force; this copy was retired when the ledger moved elsewhere.")
