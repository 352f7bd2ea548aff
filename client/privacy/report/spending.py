"""What single patients have spent: releases by the exact set of cohorts that a patient belongs to."""

import math
from collections.abc import Callable, Iterable, Sequence

from client.privacy.ledger_entries import Purpose, Reserved, Unprotected
from client.privacy.ledger_history import History, Limits, composed_epsilon, who_can_afford
from shared_model.privacy.accounting import gaussian_mu

Releases = tuple[Reserved | Unprotected, ...]
Price = Callable[[Sequence[Reserved | Unprotected], float], float]
"""``composed_epsilon``, to whoever sees only the sums of secure sums, or ``epsilon_alone``, to whoever breaks them."""


def heaviest_spending(history: History, members: frozenset[bytes]) -> tuple[Releases, ...]:
    """Return the releases that the patients of ``members`` who took part in most have each been part of.

    Patients of the same cohorts have spent the same; who took part in less than another has spent no more than she. So
    the most that any of ``members`` has spent is the largest price of what is returned here.
    """
    memberships = history.members.alike(members)
    largest = [cohorts for cohorts in memberships if not any(cohorts < others for others in memberships)]
    contents = [entry.content for entry in history.entries]
    releases = [content for content in contents if isinstance(content, Reserved | Unprotected)]
    # Sorted, so that a report does not depend on the order of a set.
    return tuple(tuple(r for r in releases if r.cohort in cohorts) for cohorts in sorted(largest, key=sorted))


def dearest(spending: Iterable[Releases], delta: float, price: Price = composed_epsilon) -> Releases:
    """Return what costs most at ``delta`` of ``spending``, which holds at least one."""
    return max(spending, key=lambda releases: price(releases, delta))


def without_budget(history: History, limits: Limits) -> frozenset[bytes]:
    """Return the patients who are left out of another release like the last one for its purpose: theirs is spent.

    They are those of the purpose's cohorts; who is forgotten is not among them.
    """
    found: set[bytes] = set()
    for purpose in Purpose:
        past = history.releases_for(purpose)
        last = _last_private(past)
        if last is not None:
            members = frozenset[bytes]().union(*(history.members[each.cohort] for each in past)) - history.forgotten
            found |= members - who_can_afford(history, members, last, limits)
    return frozenset(found)


def _last_private(releases: Sequence[Reserved | Unprotected]) -> Reserved | None:
    return next((release for release in reversed(releases) if isinstance(release, Reserved)), None)


def gaussian_mu_of(releases: Sequence[Reserved | Unprotected]) -> float | None:
    """Return mu of what one patient was part of; None where nothing bounds it, or patients were sampled."""
    private = [release.mechanism for release in releases if isinstance(release, Reserved)]
    return gaussian_mu(private) if len(private) == len(releases) else None


def bounded_epsilon(
    releases: Sequence[Reserved | Unprotected], delta: float | None, price: Price = composed_epsilon
) -> float | None:
    """Return what ``releases`` cost together; None where nothing bounds it, or there is no delta."""
    return None if delta is None else finite(price(releases, delta))


def finite(value: float) -> float | None:
    """Return ``value``, or None for infinity."""
    return value if math.isfinite(value) else None
