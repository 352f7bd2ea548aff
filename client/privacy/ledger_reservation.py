"""One reservation of budget: made once, read again after a crash, answered from store once it was committed."""

import dataclasses
import os
from dataclasses import dataclass

from client.privacy import ledger_database as database
from client.privacy.ledger_entries import Reserved
from client.privacy.ledger_history import Limits, require_budget, run_epsilon, who_can_afford
from client.privacy.ledger_store import Transaction
from client.privacy.pseudonyms import Cohort, SiteKey
from shared_model.errors import LedgerError, ProtocolError

_NOISE_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Permission to make one release, whose budget is spent already."""

    sequence: int
    epsilon: float
    """What the run costs with it, at the release's delta: a public fact, whoever takes part."""
    noise_key: bytes
    """32 bytes for the noise of this release alone; the same again if a crash kept the reply from being stored."""
    members: frozenset[bytes]
    """Pseudonyms of the patients who take part: of the cohort those who are not forgotten and can afford it."""
    witness: str
    """Keyed digest of the reservation's entry; the coordinator keeps it as an outside witness."""
    previous_witness: str
    """The witness of the reservation before, empty for the first."""


@dataclass(frozen=True, kw_only=True)
class StoredReply:
    """The same request was answered before."""

    content: bytes


def stored_reply(transaction: Transaction, release: Reserved) -> StoredReply | None:
    """Return what the request of ``release`` was answered before.

    Raises:
        ProtocolError: the reply is no longer kept.
    """
    sequence = transaction.history.reserved(release.purpose, release.request)
    answered = None if sequence is None else transaction.history.committed(sequence)
    if answered is None:
        return None
    content = database.read_reply(transaction.connection, answered.reservation, answered.reply)
    if content is None:
        raise ProtocolError("Expected a request that is new or recent; the reply to this one is no longer kept.")
    return StoredReply(content=content)


def make_reservation(transaction: Transaction, release: Reserved, cohort: Cohort, limits: Limits) -> int:
    """Take the budget of a new release, public facts alone deciding; return the number of its entry.

    Raises:
        BudgetError: not enough is left; the message says how much.
    """
    history = transaction.history
    require_budget(history.releases_for(release.purpose), release, limits)
    staying = cohort.without(history.forgotten)
    able = who_can_afford(history, staying.members, release, limits)
    taking_part = staying if len(able) == len(staying) else Cohort.from_pseudonyms(able)
    entry = dataclasses.replace(release, cohort=taking_part.fingerprint)
    sequence = transaction.append_about(entry, taking_part)
    database.insert_noise_key(transaction.connection, sequence, os.urandom(_NOISE_KEY_BYTES))
    return sequence


def read_reservation(transaction: Transaction, sequence: int, key: SiteKey) -> Reservation:
    """Return the reservation of entry ``sequence``, the same whenever it is read before its reply is stored.

    Raises:
        LedgerError: its noise key is gone.
    """
    history = transaction.history
    entry, before = history.entries[sequence - 1], history.reservation_before(sequence)
    release, noise_key = entry.content, database.read_noise_key(transaction.connection, sequence)
    if not isinstance(release, Reserved) or noise_key is None:
        raise LedgerError(f"Expected the noise key of ledger entry {sequence}: the ledger was changed.")
    return Reservation(
        sequence=sequence,
        epsilon=run_epsilon(history.releases_for(release.purpose, before=sequence), release),
        noise_key=noise_key,
        members=history.members.cohort(release.cohort).without(history.forgotten).members,
        witness=key.witness(entry.digest),
        previous_witness="" if before is None else key.witness(before.digest),
    )
