"""A verified ledger, and what its releases add up to: pure functions, no disk."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from client.privacy.ledger_entries import CohortAdded, Committed, Entry, Reserved, Unprotected
from client.privacy.pseudonyms import Cohort
from shared_model.errors import BudgetError, LedgerError
from shared_model.privacy.accounting import epsilon


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What the site grants a patient in all, over every run there has ever been."""

    max_epsilon: float | None
    """None grants without limit."""
    max_delta: float
    """``max_epsilon`` holds at this delta."""


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
            cohort = Cohort.from_pseudonyms(self.members.get(fingerprint, ()))
            if cohort.fingerprint != fingerprint or fingerprint not in recorded:
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
        contents = (entry.content for entry in self.entries)
        return tuple(c for c in contents if isinstance(c, Reserved | Unprotected) and c.cohort in cohorts)

    def committed(self, request: str, cohort: str) -> Committed | None:
        """Return the release that answered ``request`` about ``cohort``, if it was made."""
        reservations = {
            entry.sequence
            for entry in self.entries
            if isinstance(entry.content, Reserved)
            and entry.content.request == request
            and entry.content.cohort == cohort
        }
        contents = (entry.content for entry in self.entries)
        return next((c for c in contents if isinstance(c, Committed) and c.reservation in reservations), None)


def composed_epsilon(releases: Sequence[Reserved | Unprotected], delta: float) -> float:
    """Return what ``releases`` cost together at ``delta`` a patient who was in all of them; infinite if unbounded.

    Raises:
        ValueError: ``delta`` is not in (0, 1).
    """
    if any(isinstance(release, Unprotected) for release in releases):
        return math.inf
    return epsilon([release.mechanism for release in releases if isinstance(release, Reserved)], delta)


def epsilon_within_budget(spent: Sequence[Reserved | Unprotected], release: Reserved, limits: Limits) -> float:
    """Return the epsilon of ``spent`` and ``release`` together, at the release's delta.

    Raises:
        BudgetError: the run would break its promise, or the site's limit would be passed; the message says by how much.
    """
    same_run = [past for past in spent if past.run == release.run and past.purpose == release.purpose]
    in_run = composed_epsilon([*same_run, release], release.delta)
    if not in_run <= release.target_epsilon:
        raise BudgetError(
            f"Expected this run to keep its promise of epsilon {release.target_epsilon:g}: it would reach {in_run:.3f} "
            f"with {len(same_run) + 1} releases."
        )
    if limits.max_epsilon is not None:
        before, after = (composed_epsilon(part, limits.max_delta) for part in (spent, [*spent, release]))
        if not after <= limits.max_epsilon:
            raise BudgetError(
                f"Expected epsilon {after:.3f} <= {limits.max_epsilon:g} at delta {limits.max_delta:g}: these patients "
                f"have spent {before:.3f}, {max(0.0, limits.max_epsilon - before):.3f} is left."
            )
    return composed_epsilon([*spent, release], release.delta)
