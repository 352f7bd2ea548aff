"""A verified ledger, and what its releases add up to: pure functions, no disk."""

import dataclasses
import math
from collections.abc import Sequence

from client.privacy.cohorts import Cohorts, unlike_recorded
from client.privacy.ledger_entries import (
    Agreed,
    CohortAdded,
    Committed,
    Entry,
    Forgotten,
    Purpose,
    Reserved,
    Retired,
    Unprotected,
)
from shared_model.errors import BudgetError, LedgerError
from shared_model.privacy.accounting import epsilon


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What the site grants a patient in all, over every run there has ever been."""

    max_epsilon: float | None
    """None grants without limit."""
    max_delta: float
    """``max_epsilon`` and ``max_epsilon_alone`` hold at this delta."""
    max_releases: int | None = None
    """For each purpose, whatever they cost; None sets no limit."""
    max_epsilon_alone: float | None = None
    """The same for whoever breaks the secure sums or works with all other sites; None grants no more than
    ``max_epsilon``."""

    @property
    def granted_alone(self) -> float | None:
        """What the releases may cost with the site's own shares of noise alone; None grants without limit."""
        return self.max_epsilon if self.max_epsilon_alone is None else self.max_epsilon_alone

    def allow(self, releases: Sequence[Reserved | Unprotected]) -> bool:
        """Return whether a patient may be part of all ``releases``, by both prices."""
        return all(
            granted is None or price(releases, self.max_delta) <= granted
            for granted, price in ((self.max_epsilon, composed_epsilon), (self.granted_alone, epsilon_alone))
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """A verified ledger: entries, and which patients every cohort holds.

    Raises:
        LedgerError: a cohort has no entry, or an entry no cohort.
    """

    entries: tuple[Entry, ...]
    members: Cohorts
    """Pseudonyms by cohort fingerprint."""

    def __post_init__(self) -> None:
        recorded = {entry.content.cohort for entry in self.entries if isinstance(entry.content, CohortAdded)}
        for fingerprint in recorded ^ set(self.members):
            raise unlike_recorded(fingerprint)
        for entry in self.entries:
            if isinstance(entry.content, Reserved | Unprotected) and entry.content.cohort not in recorded:
                raise LedgerError(f"Expected ledger entry {entry.sequence} to concern a recorded cohort.")

    @property
    def head(self) -> Entry | None:
        """The last entry; None when there is none."""
        return self.entries[-1] if self.entries else None

    @property
    def forgotten(self) -> frozenset[bytes]:
        """Pseudonyms of the patients who take part no longer."""
        contents = (entry.content for entry in self.entries)
        return frozenset(bytes.fromhex(content.patient) for content in contents if isinstance(content, Forgotten))

    @property
    def is_retired(self) -> bool:
        """Whether the ledger goes on elsewhere."""
        return self.head is not None and isinstance(self.head.content, Retired)

    @property
    def known(self) -> frozenset[bytes]:
        """Pseudonyms of all patients of all cohorts."""
        return self.members.everybody

    @property
    def has_releases(self) -> bool:
        """Whether anything was ever released, or reserved for it."""
        return any(isinstance(entry.content, Reserved | Unprotected) for entry in self.entries)

    def overlapping(self, members: frozenset[bytes]) -> frozenset[str]:
        """Return the cohorts that share at least one patient with ``members``."""
        return self.members.overlapping(members)

    def releases(self, members: frozenset[bytes]) -> tuple[Reserved | Unprotected, ...]:
        """Return every release that may have concerned one of ``members``, in order.

        A cohort inherits all that any overlapping cohort has spent. For a patient who joined lately that is more than
        the truth, and it is never less for anyone.
        """
        cohorts = self.overlapping(members)
        contents = (entry.content for entry in self.entries)
        return tuple(c for c in contents if isinstance(c, Reserved | Unprotected) and c.cohort in cohorts)

    def releases_for(self, purpose: Purpose, *, before: int | None = None) -> tuple[Reserved | Unprotected, ...]:
        """Return every release for ``purpose``, about whomever, in order: no patient decides what is here.

        Args:
            purpose: of the releases.
            before: number of the entry before which they were made; None takes all.
        """
        contents = (entry.content for entry in self.entries[: None if before is None else before - 1])
        return tuple(c for c in contents if isinstance(c, Reserved | Unprotected) and c.purpose is purpose)

    def reserved(self, purpose: Purpose, request: str) -> int | None:
        """Return the number of the entry that reserved for ``request``, whatever its cohort; None without one."""
        for entry in self.entries:
            content = entry.content
            if isinstance(content, Reserved) and (content.purpose, content.request) == (purpose, request):
                return entry.sequence
        return None

    def agreed(self, run: str, server_round: int) -> Agreed | None:
        """Return which list of a round of a secure sum was signed, if one was."""
        contents = (entry.content for entry in reversed(self.entries))
        asked = (run, server_round)
        return next((c for c in contents if isinstance(c, Agreed) and (c.run, c.server_round) == asked), None)

    def committed(self, reservation: int) -> Committed | None:
        """Return the release that was made of a reservation, if it was."""
        contents = (entry.content for entry in self.entries)
        return next((c for c in contents if isinstance(c, Committed) and c.reservation == reservation), None)

    def reservation_before(self, reservation: int) -> Entry | None:
        """Return the entry of the reservation before this one."""
        earlier = (entry for entry in self.entries[: reservation - 1] if isinstance(entry.content, Reserved))
        return next(reversed(tuple(earlier)), None)


def composed_epsilon(releases: Sequence[Reserved | Unprotected], delta: float) -> float:
    """Return what ``releases`` cost together at ``delta`` a patient who was in all of them; infinite if unbounded.

    Raises:
        ValueError: ``delta`` is not in (0, 1).
    """
    if any(isinstance(release, Unprotected) for release in releases):
        return math.inf
    return epsilon([release.mechanism for release in releases if isinstance(release, Reserved)], delta)


def epsilon_alone(releases: Sequence[Reserved | Unprotected], delta: float) -> float:
    """Return the same price to whoever knows all noise but the site's own: ``composed_epsilon`` without secure sums.

    Raises:
        ValueError: ``delta`` is not in (0, 1).
    """
    if any(isinstance(release, Unprotected) for release in releases):
        return math.inf
    return epsilon([release.alone for release in releases if isinstance(release, Reserved)], delta)


def run_epsilon(past: Sequence[Reserved | Unprotected], release: Reserved) -> float:
    """Return what the run of ``release`` costs with it, at its delta: the run's own price, about whomever it was."""
    return composed_epsilon([*(each for each in past if each.run == release.run), release], release.delta)


def require_budget(past: Sequence[Reserved | Unprotected], release: Reserved, limits: Limits) -> None:
    """Check that the run keeps its promise, and that the site grants a patient of all these releases one more.

    No patient has a say in this: a refusal that followed the members of a cohort would tell whether two cohorts share
    somebody.

    Args:
        past: all earlier releases for the purpose of ``release``, whatever their cohort.
        release: the new one.
        limits: the site's.

    Raises:
        BudgetError: the run would break its promise, or a limit of the site would be passed; the message says by how
            much.
    """
    if limits.max_releases is not None and len(past) >= limits.max_releases:
        raise BudgetError(
            f"Expected at most {limits.max_releases} releases for {release.purpose}; see the site's policy."
        )
    in_run = run_epsilon(past, release)
    if not in_run <= release.target_epsilon:
        raise BudgetError(
            f"Expected this run to keep its promise of epsilon {release.target_epsilon:g}: it would reach {in_run:.3f}."
        )
    for granted, price, to_whom in (
        (limits.max_epsilon, composed_epsilon, ""),
        (limits.granted_alone, epsilon_alone, " to whoever breaks the secure sums"),
    ):
        if granted is None:
            continue
        before, after = (price(part, limits.max_delta) for part in (past, [*past, release]))
        if not after <= granted:
            raise BudgetError(
                f"Expected epsilon {after:.3f} <= {granted:g} at delta {limits.max_delta:g}{to_whom}: for "
                f"{release.purpose} this site has spent {before:.3f}, {max(0.0, granted - before):.3f} is left."
            )


def who_can_afford(history: History, members: frozenset[bytes], release: Reserved, limits: Limits) -> frozenset[bytes]:
    """Return those of ``members`` whose own spending, over all purposes, stays within the limit with ``release``.

    The others are left out of it and nobody outside learns of it. Whether a patient is left out depends on her own
    releases alone, so that two cohorts that differ by one patient still differ by one patient at most (an individual
    privacy filter: Feldman and Zrnic 2021, arXiv 2008.11193).
    """
    if limits.granted_alone is None:
        return members
    releases = [(e.content, e.content.cohort) for e in history.entries if isinstance(e.content, Reserved | Unprotected)]
    everything = [*(past for past, _ in releases), release]
    if limits.allow(everything):
        return members
    able: set[bytes] = set()
    for cohorts, same in history.members.alike(members).items():
        own = [past for past, cohort in releases if cohort in cohorts]
        if limits.allow([*own, release]):
            able |= same
    return frozenset(able)
