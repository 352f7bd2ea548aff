"""What a ledger's entries say, how they are chained, and what they add up to: pure functions, no disk.

Every entry carries the SHA-256 digest of itself and its predecessor, so that an edited, deleted or moved entry breaks
the chain. What a chain alone cannot show is that its end was cut off: for that the last digest is kept elsewhere too.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from client.privacy.pseudonyms import Cohort
from shared_model.config.choices import NoiseSource
from shared_model.config.strict_build import build
from shared_model.errors import ConfigError, LedgerError
from shared_model.privacy.accounting import Mechanism, epsilon
from shared_model.system.hash_chain import Link, digest_of, first_broken

FORMAT = 1
"""Raised whenever an entry changes its meaning."""


class Purpose(StrEnum):
    """What a release is for."""

    TRAINING = "training"
    EVALUATION = "evaluation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """The ledger began; always and only the first entry."""

    ledger: str
    """Random name."""
    key_check: str
    """``SiteKey.check`` of the key that the pseudonyms were made with."""
    format: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class CohortAdded:
    """A set of patients was seen for the first time."""

    cohort: str
    """``Cohort.fingerprint``."""
    num_patients: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reserved:
    """Budget was taken for one release; from here on it counts as spent, whether or not the release happened."""

    purpose: Purpose
    run: str
    """Fingerprint of the run's configuration."""
    server_round: int
    request: str
    """Digest of everything that was asked."""
    cohort: str
    num_patients_declared: int
    mechanism: Mechanism
    """Of this release alone."""
    delta: float
    """At which the run's promise holds."""
    target_epsilon: float
    """What all releases of this purpose in this run may cost together, at ``delta``."""
    max_grad_norm: float
    noise: NoiseSource


@dataclasses.dataclass(frozen=True, kw_only=True)
class Committed:
    """The release of a reservation was made; the same request gets the same bytes again."""

    reservation: int
    """Sequence number of the ``Reserved`` entry."""
    reply: str
    """SHA-256 of the bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unprotected:
    """A run released something about the cohort without noise: nothing bounds what it revealed."""

    purpose: Purpose
    run: str
    cohort: str
    num_patients_declared: int


Content = Opened | CohortAdded | Reserved | Committed | Unprotected
_KINDS: dict[str, type[Content]] = {
    "opened": Opened,
    "cohort": CohortAdded,
    "reserved": Reserved,
    "committed": Committed,
    "unprotected": Unprotected,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """An entry as it stands on disk."""

    sequence: int
    """From 1."""
    time: str
    """ISO 8601 with offset from UTC, by the site's clock; nothing depends on it."""
    kind: str
    body: str
    """JSON, keys sorted."""
    previous: str
    digest: str

    def computed_digest(self) -> str:
        """Return what ``digest`` must be."""
        return digest_of((str(self.sequence), self.time, self.kind, self.body, self.previous))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry understood."""

    sequence: int
    time: datetime
    content: Content
    digest: str


def row_of(content: Content, *, sequence: int, time: datetime, previous: str) -> Row:
    """Return the row that holds ``content`` after the entry with digest ``previous``."""
    row = Row(
        sequence=sequence,
        time=time.isoformat(timespec="milliseconds"),
        kind=_NAMES[type(content)],
        body=json.dumps(dataclasses.asdict(content), sort_keys=True, allow_nan=False),
        previous=previous,
        digest="",
    )
    return dataclasses.replace(row, digest=row.computed_digest())


def read_entries(rows: Sequence[Row]) -> tuple[Entry, ...]:
    """Return the entries of ``rows`` after checking the chain.

    Raises:
        LedgerError: naming the first entry that was edited, moved or is missing, or that says nothing known.
    """
    number = first_broken(map(_link, rows))
    if number is not None:
        found = rows[number - 1].sequence
        if found != number:
            raise LedgerError(f"Expected ledger entry {number}, found entry {found}: entries are missing.")
        raise LedgerError(f"Expected ledger entry {number} as it was written: it was changed afterwards.")
    entries = tuple(entry_of(row) for row in rows)
    if entries and not isinstance(entries[0].content, Opened):
        raise LedgerError("Expected ledger entry 1 to open the ledger.")
    return entries


def _link(row: Row) -> Link:
    return Link(sequence=row.sequence, previous=row.previous, digest=row.digest, expected_digest=row.computed_digest())


def entry_of(row: Row) -> Entry:
    """Return the entry of one row, whose place in the chain is not checked here.

    Raises:
        LedgerError: it says nothing known.
    """
    if row.kind not in _KINDS:
        raise LedgerError(f"Expected ledger entry {row.sequence} of a known kind, got {row.kind!r}.")
    try:
        body: Any = json.loads(row.body)
        content: Content = build(_KINDS[row.kind], body, path=row.kind)
        time = datetime.fromisoformat(row.time)
    except (ConfigError, ValueError) as error:
        raise LedgerError(f"Expected ledger entry {row.sequence} to be readable: {error}") from error
    if isinstance(content, Opened) and content.format != FORMAT:
        raise LedgerError(f"Expected a ledger of format={content.format} == {FORMAT}.")
    return Entry(sequence=row.sequence, time=time, content=content, digest=row.digest)


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """A verified ledger: entries, and which patients every cohort holds.

    Raises:
        LedgerError: a cohort's members are not those that its entry was made for.
    """

    entries: tuple[Entry, ...]
    members: Mapping[str, frozenset[bytes]]
    """Pseudonyms by cohort fingerprint."""

    def __post_init__(self) -> None:
        recorded = {entry.content.cohort for entry in self.entries if isinstance(entry.content, CohortAdded)}
        for fingerprint in recorded | set(self.members):
            if (
                Cohort.from_pseudonyms(self.members.get(fingerprint, ())).fingerprint != fingerprint
                or fingerprint not in recorded
            ):
                raise LedgerError(f"Expected the patients of cohort {fingerprint[:12]} as they were recorded.")
        for entry in self.entries:
            if isinstance(entry.content, Reserved | Unprotected) and entry.content.cohort not in recorded:
                raise LedgerError(f"Expected ledger entry {entry.sequence} to concern a recorded cohort.")

    @property
    def head(self) -> Entry | None:
        """The last entry; None when there is none."""
        return self.entries[-1] if self.entries else None

    def overlapping(self, members: frozenset[bytes]) -> frozenset[str]:
        """Return the cohorts that share at least one patient with ``members``."""
        return frozenset(name for name, others in self.members.items() if not members.isdisjoint(others))

    def releases(self, members: frozenset[bytes]) -> tuple[Reserved | Unprotected, ...]:
        """Return every release that may have concerned one of ``members``, in order.

        A cohort inherits all that any overlapping cohort has spent. For a patient who joined lately that is more than
        the truth, and it is never less for anyone.
        """
        cohorts = self.overlapping(members)
        found = (entry.content for entry in self.entries)
        return tuple(c for c in found if isinstance(c, Reserved | Unprotected) and c.cohort in cohorts)

    def committed(self, request: str, cohort: str) -> Committed | None:
        """Return the release that answered ``request`` about ``cohort``, if it was made."""
        asked = {
            entry.sequence
            for entry in self.entries
            if isinstance(entry.content, Reserved)
            and entry.content.request == request
            and entry.content.cohort == cohort
        }
        found = (entry.content for entry in self.entries)
        return next((c for c in found if isinstance(c, Committed) and c.reservation in asked), None)


def epsilon_of(releases: Sequence[Reserved | Unprotected], delta: float) -> float:
    """Return what ``releases`` cost together at ``delta`` a patient who was in all of them; infinite if unbounded.

    Raises:
        ValueError: ``delta`` is not in (0, 1).
    """
    if any(isinstance(release, Unprotected) for release in releases):
        return math.inf
    return epsilon([release.mechanism for release in releases if isinstance(release, Reserved)], delta)
