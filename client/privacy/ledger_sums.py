"""What a site keeps of the rounds of a secure sum, beside its ledger: one roster a run, one list a round, one opening.

A coordinator that asked twice, of other sites, could open more than one sum of the same release. So what was answered
is on disk before it leaves, and another question about the same round is refused, also after a crash.
"""

import dataclasses
import sqlite3
from dataclasses import dataclass

from client.privacy.ledger_entries import Agreed
from shared_model.errors import LedgerError

_TABLE = """
CREATE TABLE IF NOT EXISTS sums (
    run TEXT NOT NULL, server_round INTEGER NOT NULL, roster BLOB NOT NULL, seeds BLOB, offer BLOB NOT NULL,
    participants BLOB, request TEXT, shares BLOB, survivors BLOB, PRIMARY KEY (run, server_round)
)
"""
MOST_OPEN = 256
"""Rounds with an offer and no release; the oldest go first. An offer costs no budget, so that a coordinator could fill
the disk with them. Nothing was ever masked with the seeds of such a round: another offer in its place opens nothing."""
_DROP = """
DELETE FROM sums WHERE participants IS NULL AND rowid NOT IN (
    SELECT rowid FROM sums WHERE participants IS NULL ORDER BY rowid DESC LIMIT ?
)
"""


@dataclass(frozen=True, kw_only=True)
class SumRound:
    """One round of a secure sum, as far as it has come at this site."""

    roster: bytes
    """Digest of the sites of the run and of their keys."""
    seeds: bytes | None
    """Of this site's masks; None once they are of no more use."""
    offer: bytes
    """What this site replied, to be sent again."""
    participants: bytes | None = None
    """Digest of the list of those who take part; None before it is known."""
    request: str | None = None
    """Digest of the one request whose release has the masks of this round: two would show their difference."""
    shares: bytes | None = None
    """Of the others' seeds, opened."""
    survivors: bytes | None = None
    """Digest of the list of those whose values arrived; None before it is known."""


_FIELDS = tuple(field.name for field in dataclasses.fields(SumRound))


def read_rounds(connection: sqlite3.Connection, run: str) -> dict[int, SumRound]:
    """Return what is kept of the rounds of a run."""
    connection.execute(_TABLE)
    rows = connection.execute(f"SELECT server_round, {', '.join(_FIELDS)} FROM sums WHERE run = ?", (run,))  # noqa: S608
    return {int(number): SumRound(**dict(zip(_FIELDS, values, strict=True))) for number, *values in rows}


def write_round(connection: sqlite3.Connection, run: str, server_round: int, kept: SumRound) -> None:
    """Keep ``kept`` in the place of what was kept of the round; of rounds without a release only ``MOST_OPEN``."""
    values = (run, server_round, *(getattr(kept, name) for name in _FIELDS))
    connection.execute(f"INSERT OR REPLACE INTO sums VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608
    connection.execute(_DROP, (MOST_OPEN,))


def require_agreed(kept: SumRound | None, agreed: Agreed | None) -> None:
    """Check that what is kept of a round has the list that the ledger's entries name.

    Raises:
        LedgerError: it has not: the rows beside the entries were put back or changed.
    """
    if agreed is None:
        return
    # A closed round has an empty list, and signs none.
    if kept is None or (kept.survivors is None or kept.survivors.hex() not in {"", agreed.survivors}):
        raise LedgerError(
            f"Expected the list that this site signed in round {agreed.server_round} of a secure sum as the ledger's "
            "entries have it: its rows were changed afterwards."
        )


def close_rounds(connection: sqlite3.Connection) -> None:
    """Answer about no round any more that is known: this ledger was put back, and may have answered since."""
    connection.execute(_TABLE)
    connection.execute("UPDATE sums SET seeds = NULL, participants = X'', survivors = X''")
