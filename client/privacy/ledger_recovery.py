"""A ledger that was rolled back gets back what it lost, as spent."""

import dataclasses
from collections.abc import Iterable

from client.privacy.audited_releases import LostRelease
from client.privacy.ledger_entries import Committed, Forgotten
from client.privacy.ledger_store import Transaction
from client.privacy.pseudonyms import Cohort


def enter_lost(
    transaction: Transaction,
    releases: Iterable[LostRelease],
    *,
    forgotten: Iterable[bytes],
    patients: frozenset[bytes],
) -> None:
    """Enter releases that count as spent, and patients who stay forgotten.

    Nobody knows any more whom a lost release was about: it is entered as one about all patients whom the ledger knows
    and all of ``patients``. Its request is not answered again, as the reply is lost too.

    Args:
        transaction: of the ledger.
        releases: those that it does not have.
        forgotten: pseudonyms.
        patients: pseudonyms of all patients of today.
    """
    everybody = Cohort.from_pseudonyms(transaction.history.known | patients)
    for lost in releases:
        entry = dataclasses.replace(lost.release, cohort=everybody.fingerprint)
        sequence = transaction.append_about(entry, everybody)
        if lost.reply is not None:
            transaction.append(Committed(reservation=sequence, reply=lost.reply))
    for pseudonym in sorted(set(forgotten) - transaction.history.forgotten):
        transaction.append(Forgotten(patient=pseudonym.hex()))
