"""What a ledger's entries say, and how they are written and read: pure functions, no disk.

The entries are a hash chain (``shared_model.system.hash_chain``): an edited, deleted or moved entry breaks it.
"""

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from shared_model.config.choices import NoiseSource
from shared_model.errors import ConfigError, LedgerError
from shared_model.privacy.mechanism import Mechanism
from shared_model.system.checked import build, checked, require
from shared_model.system.documents import from_json
from shared_model.system.hash_chain import Link, digest_of, first_broken

FORMAT = 2
"""Raised whenever an entry changes its meaning. 1 knew patients by the spelling of their identifiers."""


class Purpose(StrEnum):
    """What a release is for."""

    TRAINING = "training"
    EVALUATION = "evaluation"


@checked()
class Opened:
    """The ledger began; always and only the first entry."""

    ledger: str
    """Random name."""
    key_check: str
    """``SiteKey.check`` of the key that the pseudonyms were made with."""
    format: int


@checked()
class CohortAdded:
    """A set of patients was seen for the first time."""

    cohort: str
    """``Cohort.fingerprint``."""
    num_patients: int


@checked()
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
    """Of this release alone; with secure sums as whoever sees only the sum over the sites learns it."""
    delta: float
    """At which the run's promise holds."""
    target_epsilon: float
    """What all releases of this purpose in this run may cost together, at ``delta``."""
    max_grad_norm: float
    noise: NoiseSource
    own_share: Mechanism | None = None
    """The same release as a coordinator sees it that breaks the secure sum or works with all other sites: with the
    site's own share of the noise alone. None where the site added all noise itself."""

    def __post_init__(self) -> None:
        share, whole = self.own_share, self.mechanism
        is_share = share is None or (
            (share.sampling_rate, share.num_steps) == (whole.sampling_rate, whole.num_steps)
            and share.noise_multiplier <= whole.noise_multiplier
        )
        require(is_share, "to be the steps of mechanism with no more noise", own_share=share)

    @property
    def alone(self) -> Mechanism:
        """What the release is to whoever sees it without the other sites' noise."""
        return self.mechanism if self.own_share is None else self.own_share


@checked()
class Committed:
    """The release of a reservation was made; the same request gets the same bytes again."""

    reservation: int
    """Sequence number of the ``Reserved`` entry."""
    reply: str
    """SHA-256 of the bytes."""


@checked()
class Unprotected:
    """A run released something about the cohort without noise: nothing bounds what it revealed."""

    purpose: Purpose
    run: str
    cohort: str
    num_patients_declared: int


@checked()
class Agreed:
    """The one list of hospitals in a round of a secure sum was signed; a ledger put back behind it lacks this entry."""

    run: str
    server_round: int
    survivors: str
    """Digest of the list, hexadecimal."""


@checked()
class Forgotten:
    """A patient takes part no longer; what she has spent stays spent."""

    patient: str
    """Pseudonym, hexadecimal."""


@checked()
class Retired:
    """The ledger goes on elsewhere: always the last entry here."""

    successor: str
    """For a person: where it went."""


Content = Opened | CohortAdded | Reserved | Committed | Unprotected | Agreed | Forgotten | Retired
_KINDS: dict[str, type[Content]] = {
    "opened": Opened,
    "cohort": CohortAdded,
    "reserved": Reserved,
    "committed": Committed,
    "unprotected": Unprotected,
    "agreed": Agreed,
    "forgotten": Forgotten,
    "retired": Retired,
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


def to_row(content: Content, *, sequence: int, time: datetime, previous: str) -> Row:
    """Return the row that holds ``content`` after the entry with digest ``previous``."""
    # A release without a share is written as before there were any, so that its digest is the same.
    plain = {name: value for name, value in dataclasses.asdict(content).items() if value is not None}
    row = Row(
        sequence=sequence,
        time=time.isoformat(timespec="milliseconds"),
        kind=_NAMES[type(content)],
        body=json.dumps(plain, sort_keys=True, allow_nan=False),
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
        sequence = rows[number - 1].sequence
        if sequence != number:
            raise LedgerError(f"Expected ledger entry {number}, found entry {sequence}: entries are missing.")
        raise LedgerError(f"Expected ledger entry {number} as it was written: it was changed afterwards.")
    entries = tuple(parse_entry(row) for row in rows)
    if entries and not isinstance(entries[0].content, Opened):
        raise LedgerError("Expected ledger entry 1 to open the ledger.")
    return entries


def _link(row: Row) -> Link:
    return Link(sequence=row.sequence, previous=row.previous, digest=row.digest, expected_digest=row.computed_digest())


def parse_entry(row: Row) -> Entry:
    """Return the entry of one row, whose place in the chain is not checked here.

    Raises:
        LedgerError: it says nothing known.
    """
    if row.kind not in _KINDS:
        raise LedgerError(f"Expected ledger entry {row.sequence} of a known kind, got {row.kind!r}.")
    try:
        content: Content = build(_KINDS[row.kind], from_json(row.body), path=row.kind)
        time = datetime.fromisoformat(row.time)
    except (ConfigError, ValueError) as error:
        raise LedgerError(f"Expected ledger entry {row.sequence} to be readable: {error}") from error
    if isinstance(content, Opened) and content.format != FORMAT:
        raise LedgerError(
            f"Expected a ledger of format={content.format} == {FORMAT}. Install the version that began it, or keep the "
            "file and begin a new ledger with fedmammo site init."
        )
    return Entry(sequence=row.sequence, time=time, content=content, digest=row.digest)
