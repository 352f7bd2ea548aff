"""What a site has spent of its patients' privacy, on its own disk: reserve before, commit after, never refund.

Four files belong together: the ledger itself (SQLite), and beside it ``.key`` (the secret behind the pseudonyms),
``.head`` (the last entry's digest, so that a ledger cut short is noticed) and ``.lock`` (one writer at a time). A
fifth, ``.space``, holds disk space for the next reply.

A ledger is created once, by ``Ledger.create``; opening never creates one, since an empty ledger grants everything.

The order of writes is the guarantee. A reservation is on disk, flushed, before training reads an example; a reply is
on disk before it leaves. After a crash at any point what was reserved counts as spent, and the same request gets the
same reply: the stored one, or one made again with the key of the noise that the reservation keeps until its reply is
stored. So a crash costs nothing and changes nothing. Who can write all files can write another history; a signed report
that names the head shows it.

A process verifies the chain when it opens the ledger, and whenever the file is not as it left it.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Self

from client.privacy import ledger_database as database
from client.privacy import ledger_files as files
from client.privacy.audited_releases import LostRelease
from client.privacy.ledger_copies import copy_ledger, move_ledger
from client.privacy.ledger_creation import create_ledger, load_key
from client.privacy.ledger_entries import Agreed, Committed, Forgotten, Opened, Reserved, Unprotected
from client.privacy.ledger_history import History, Limits, require_budget
from client.privacy.ledger_patients import Recognition, recognise
from client.privacy.ledger_recovery import enter_lost
from client.privacy.ledger_reservation import Reservation, StoredReply, make_reservation, read_reservation, stored_reply
from client.privacy.ledger_store import LedgerStore
from client.privacy.ledger_sums import SumRound, close_rounds, read_rounds, require_agreed, write_round
from client.privacy.pseudonyms import Cohort
from shared_model.errors import BudgetError, LedgerError

_SPACE_MARGIN = 2**18
"""Bytes that an entry, its index and the head may take beside the reply and the journal, which may be as large: it
keeps the oldest reply while the newest takes its place."""


class Ledger:
    """The ledger at ``path``, which ``create`` has made."""

    def __init__(self, path: Path) -> None:
        """Open and verify.

        Raises:
            LedgerError: there is none, it was changed, is damaged, belongs to another key, or cannot be written.
        """
        self.path = path
        if not path.exists():
            raise LedgerError(
                f"Expected a ledger at {path}. If this site has one, correct its path or get it back; a site that "
                "never took part begins one: fedmammo site init."
            )
        with files.locked(path):
            self._key = load_key(path)
        self._cohort = lru_cache(maxsize=4)(self._key.cohort)
        self._store = LedgerStore(path)
        if _opened(self.history()).key_check != self._key.check:
            raise LedgerError(f"Expected the key beside {path} that the ledger was begun with, found another.")

    @classmethod
    def create(cls, path: Path) -> Self:
        """Begin a ledger at ``path``, with a key of its own, and open it; finish a creation that a crash cut short.

        Raises:
            LedgerError: there is a ledger already, or a part of one; or it cannot be written.
        """
        create_ledger(path)
        return cls(path)

    @property
    def name(self) -> str:
        """The random name that the ledger was begun with."""
        return _opened(self.history()).ledger

    @property
    def role_secret(self) -> bytes:
        """The secret that decides which patients are kept for validation; see ``client.data.splits``."""
        return self._key.role_secret

    @property
    def identity_secret(self) -> bytes:
        """The secret of the site's identity in secure sums; it goes where the ledger goes."""
        return self._key.identity_secret

    def cohort(self, patients: Iterable[str]) -> Cohort:
        """Return the cohort of the patients with these identifiers; the last few are kept."""
        return self._cohort(tuple(patients))

    def pseudonym(self, patient: str) -> bytes:
        """Return the pseudonym of one patient."""
        return self._key.pseudonym(patient)

    def history(self) -> History:
        """Return the verified history.

        Raises:
            LedgerError: the ledger was changed or is damaged.
        """
        return self._store.history()

    def reserve(
        self, release: Reserved, cohort: Cohort, limits: Limits, *, reply_bytes: int
    ) -> Reservation | StoredReply:
        """Take the budget of ``release``, or return what the same request was answered before.

        Formal guarantee: over all reservations of this ledger that returned, for every patient, the composition of
        those in which she takes part is at most ``limits.max_epsilon`` at ``limits.max_delta``, to whoever breaks the
        secure sums among them ``limits.max_epsilon_alone``; and of those of one run and purpose at most the run's
        ``target_epsilon`` at its ``delta``. Whether this returns or raises, and what,
        depends on earlier requests and not on who the patients are; ``Reservation.members`` does, and stays here.

        A request that was reserved and, after a crash, never answered gets the same reservation again: the same noise,
        the same patients, no new cost.

        Args:
            release: its cohort is replaced by that of the patients who take part.
            cohort: the patients whom the release may concern.
            limits: the site's own.
            reply_bytes: space that the reply will need; it is taken from the disk before the budget.

        Raises:
            BudgetError: not enough is left; the message says how much. Nothing is spent.
            ProtocolError: the request was answered so long ago that the reply is no longer kept.
            LedgerError: the ledger was changed, is damaged or cannot be written; or the disk has no space for the
                reply. Nothing is spent.
        """
        try:
            with self._store.transaction() as transaction:
                answered = stored_reply(transaction, release)
                if answered is not None:
                    return answered
                files.take_space(self.path, 2 * reply_bytes + _SPACE_MARGIN)
                sequence = transaction.history.reserved(release.purpose, release.request)
                if sequence is None:
                    sequence = make_reservation(transaction, release, cohort, limits)
                return read_reservation(transaction, sequence, self._key)
        except BaseException:
            files.free_space(self.path)
            raise

    def require_affordable(self, release: Reserved, limits: Limits) -> None:
        """Check that ``reserve`` would find the budget of ``release``, or its reservation; nothing is spent.

        Raises:
            BudgetError: not enough is left.
            LedgerError: the ledger was changed or is damaged.
        """
        history = self.history()
        if history.reserved(release.purpose, release.request) is None:
            require_budget(history.releases_for(release.purpose), release, limits)

    def commit(self, reservation: Reservation, reply: bytes) -> None:
        """Record that ``reply`` is about to leave the site for ``reservation``; only then may it leave.

        Raises:
            LedgerError: the ledger was changed, is damaged or cannot be written.
        """
        with self._store.transaction() as transaction:
            if database.read_noise_key(transaction.connection, reservation.sequence) != reservation.noise_key:
                # Two replies under one key would show the difference of what they are made of.
                raise LedgerError(f"Expected reservation {reservation.sequence} to be open; it was answered already.")
            files.free_space(self.path)
            database.insert_reply(transaction.connection, reservation.sequence, reply)
            database.delete_noise_key(transaction.connection, reservation.sequence)
            digest = hashlib.sha256(reply).hexdigest()
            transaction.append(Committed(reservation=reservation.sequence, reply=digest))

    def note_unprotected(self, release: Unprotected, cohort: Cohort, limits: Limits) -> frozenset[bytes]:
        """Record, once per run and purpose, that ``release`` reveals without bound those of the cohort who take part.

        Returns:
            Their pseudonyms: of the cohort those who are not forgotten.

        Raises:
            BudgetError: the site grants a bounded budget only.
            LedgerError: the ledger was changed, is damaged or cannot be written.
        """
        if limits.granted_alone is not None:
            raise BudgetError(
                f"Expected a private release, as the site grants epsilon {limits.granted_alone:g} in all."
            )
        with self._store.transaction() as transaction:
            history = transaction.history
            taking_part = cohort.without(history.forgotten)
            entry = dataclasses.replace(release, cohort=taking_part.fingerprint)
            if all(earlier.content != entry for earlier in history.entries):
                transaction.append_about(entry, taking_part)
            return taking_part.members

    def settle_sum(self, run: str, server_round: int, decide: Callable[[Mapping[int, SumRound]], SumRound]) -> SumRound:
        """Keep what ``decide`` makes of the rounds of a secure sum for ``server_round``, and return it.

        It is on disk when this returns, and nobody else writes meanwhile. What ``decide`` raises changes nothing. The
        list of survivors is an entry too, so that the head and the audit log know a ledger that was put back behind it.

        Raises:
            LedgerError: the ledger was changed, is damaged, retired or cannot be written.
        """
        with self._store.transaction() as transaction:
            if transaction.history.is_retired:
                # The other copy answers: two could agree to two lists in one round.
                raise LedgerError(f"Expected the ledger {self.path} in force; it was retired when it moved elsewhere.")
            known = read_rounds(transaction.connection, run)
            require_agreed(known.get(server_round), transaction.history.agreed(run, server_round))
            settled = decide(known)
            if settled != known.get(server_round):
                write_round(transaction.connection, run, server_round, settled)
            if settled.survivors and transaction.history.agreed(run, server_round) is None:
                transaction.append(Agreed(run=run, server_round=server_round, survivors=settled.survivors.hex()))
            return settled

    def forget(self, patient: str) -> bool:
        """Let a patient take part no longer, from the next request on; return whether the ledger knew her.

        Raises:
            LedgerError: the ledger was changed, is damaged or cannot be written.
            ValueError: the identifier names nobody.
        """
        pseudonym = self._key.pseudonym(patient)
        with self._store.transaction() as transaction:
            if pseudonym not in transaction.history.forgotten:
                transaction.append(Forgotten(patient=pseudonym.hex()))
            return pseudonym in transaction.history.known

    def back_up(self, folder: Path) -> Path:
        """Copy the ledger, its head and its key to a new folder, and return where the copy lies.

        What is released afterwards is not in the copy: in its place it would grant that once more.

        Raises:
            LedgerError: the folder is in use, the ledger was changed or is damaged, or a file cannot be written.
        """
        with self._store.transaction():
            return copy_ledger(self.path, folder)

    def move_to(self, folder: Path) -> Path:
        """Retire the ledger here and let it go on in a new folder; see ``ledger_copies``.

        Raises:
            LedgerError: the folder is in use, the ledger was changed, is damaged or retired, or a file cannot be
                written.
        """
        return move_ledger(self._store, folder)

    def enter_lost(
        self, releases: Iterable[LostRelease], *, forgotten: Iterable[bytes], patients: Iterable[str]
    ) -> None:
        """Enter what a ledger that was rolled back has lost; see ``ledger_recovery``.

        Rounds of secure sums that it knows are closed: it may have answered about them since.

        ``forgotten`` are pseudonyms, ``patients`` the identifiers of all patients of today.

        Raises:
            LedgerError: the ledger was changed, is damaged or retired, or cannot be written.
        """
        today = frozenset(map(self._key.pseudonym, patients))
        with self._store.transaction() as transaction:
            enter_lost(transaction, releases, forgotten=forgotten, patients=today)
            close_rounds(transaction.connection)

    def recognise(self, patients: Iterable[str]) -> Recognition:
        """Return how many of ``patients`` the ledger knows, and under the same spelling.

        Raises:
            LedgerError: the ledger was changed or is damaged.
            ValueError: an identifier names nobody.
        """
        with self._store.transaction() as transaction:
            spellings = database.read_spellings(transaction.connection)
        return recognise(patients, self._key, transaction.history, spellings)

    def remember_spellings(self, patients: Iterable[str]) -> None:
        """Remember how the identifiers of ``patients`` are spelt.

        Raises:
            LedgerError: the ledger was changed, is damaged or cannot be written.
            ValueError: an identifier names nobody.
        """
        spellings = {self._key.pseudonym(patient): self._key.spelling(patient) for patient in patients}
        with self._store.transaction() as transaction:
            database.insert_spellings(transaction.connection, spellings)


def _opened(history: History) -> Opened:
    opened = history.entries[0].content
    if not isinstance(opened, Opened):
        raise LedgerError("Expected ledger entry 1 to open the ledger.")
    return opened
