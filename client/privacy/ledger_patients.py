"""Which of today's patients a ledger knows, and under which spelling of their identifiers."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from client.privacy.ledger_history import History
from client.privacy.pseudonyms import SiteKey


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """How many of some patients the ledger knows."""

    num_known: int
    num_unknown: int
    num_respelt: int
    """Known, but under other spellings of their identifiers only."""
    has_releases: bool
    """Whether anything was ever released about anybody."""


def recognise(
    patients: Iterable[str], key: SiteKey, history: History, spellings: Mapping[bytes, Set[bytes]]
) -> Recognition:
    """Look up identifiers among the patients of all cohorts, and among the spellings that were remembered.

    A patient without a remembered spelling, who joined during a run, counts as known and not as respelt.

    Raises:
        ValueError: an identifier names nobody.
    """
    known, num_patients, num_known, num_respelt = history.known, 0, 0, 0
    for patient in patients:
        pseudonym = key.pseudonym(patient)
        before = spellings.get(pseudonym, set())
        num_patients += 1
        num_known += bool(before) or pseudonym in known
        num_respelt += bool(before) and key.spelling(patient) not in before
    return Recognition(
        num_known=num_known,
        num_unknown=num_patients - num_known,
        num_respelt=num_respelt,
        has_releases=history.has_releases,
    )
