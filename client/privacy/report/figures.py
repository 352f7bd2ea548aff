"""The figures of a privacy report, from a verified ledger."""

import dataclasses
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Opened, Reserved, Retired, Unprotected
from client.privacy.ledger_history import History, Limits, epsilon_alone
from client.privacy.report.audit_counts import count_audit
from client.privacy.report.contents import (
    MAX_ROUNDS_LEFT,
    MAX_SECOND_EPSILON,
    SHORT,
    CohortReport,
    PrivacyReport,
)
from client.privacy.report.runs import runs_of, unanswered
from client.privacy.report.spending import (
    Releases,
    bounded_epsilon,
    dearest,
    finite,
    gaussian_mu_of,
    heaviest_spending,
    without_budget,
)
from shared_model.config.choices import NoiseSource
from shared_model.errors import ConfigError, LedgerError
from shared_model.privacy.cross_check import agreement_tolerance, epsilon_prv, epsilon_rdp
from shared_model.privacy.mechanism import Mechanism, merge_equal_steps

MAX_COURSE_POINTS = 50
"""The course of epsilon is priced at no more places: one price below sampling rate 1 takes up to a second."""


def report_on(
    path: Path,
    *,
    delta: float | None = None,
    limits: Limits | None = None,
    expect_head: str | None = None,
    audit_log: Path | None = None,
) -> PrivacyReport:
    """Read and verify the ledger at ``path`` and add it up.

    Args:
        path: the ledger.
        delta: at which epsilons are given, in (0, 1); None takes that of ``limits``, and without limits the largest
            that any release names.
        limits: what the site's policy grants, for the rounds left.
        expect_head: the head of an earlier report, which must still be in the chain.
        audit_log: the site's, from which refusals are counted; None where there is none, as in a simulation.

    Raises:
        ValueError: an argument is out of bounds.
    """
    if delta is not None and not 0 < delta < 1:
        raise ValueError(f"Expected delta={delta} in (0, 1).")
    if expect_head is not None and not re.fullmatch("[0-9a-f]{64}", expect_head):
        raise ValueError(f"Expected expect_head={expect_head} to be 64 hexadecimal digits.")
    created = datetime.now(UTC)
    if delta is None and limits is not None:
        delta = limits.max_delta
    try:
        history = read_history(path)
        if expect_head is not None:
            _require_entry(history, expect_head)
    except LedgerError as error:
        return PrivacyReport(
            created=created.isoformat(timespec="seconds"),
            ledger="",
            head="",
            num_entries=0,
            # The report may be handed on; where the site keeps its files is nobody's business.
            problem=str(error).replace(f"{path.parent}/", ""),
            delta=delta,
            max_epsilon=None if limits is None else limits.max_epsilon,
            max_epsilon_alone=None if limits is None else limits.granted_alone,
            max_delta=None if limits is None else limits.max_delta,
            is_over_cap=False,
            epsilon=None,
            attack_success=None,
            is_noise_secret=False,
            clock_went_back=False,
            cohorts=(),
        )
    report = _summarise(history, created=created, delta=delta, limits=limits)
    return report if audit_log is None else _with_audit_counts(report, audit_log, now=created)


def _with_audit_counts(report: PrivacyReport, audit_log: Path, *, now: datetime) -> PrivacyReport:
    try:
        counts = count_audit(audit_log, now=now)
    except ConfigError as error:
        return dataclasses.replace(report, audit_problem=str(error).replace(f"{audit_log.parent}/", ""))
    return dataclasses.replace(
        report, refusals=counts.refusals, num_recovered=counts.num_recovered, num_alarms=counts.num_alarms
    )


def _summarise(history: History, *, created: datetime, delta: float | None, limits: Limits | None) -> PrivacyReport:
    """Add up a verified history of one entry or more; see ``report_on``."""
    contents = [entry.content for entry in history.entries]
    if delta is None:
        delta = max((content.delta for content in contents if isinstance(content, Reserved)), default=None)
    names = dict.fromkeys(content.cohort for content in contents if isinstance(content, Reserved | Unprotected))
    cohorts = tuple(_cohort(history, name, delta, limits) for name in names)
    times = [entry.time for entry in history.entries]
    head = history.entries[-1]
    return PrivacyReport(
        created=created.isoformat(timespec="seconds"),
        ledger=contents[0].ledger if isinstance(contents[0], Opened) else "",
        head=head.digest,
        num_entries=len(contents),
        problem=None,
        delta=delta,
        max_epsilon=None if limits is None else limits.max_epsilon,
        max_epsilon_alone=None if limits is None else limits.granted_alone,
        max_delta=None if limits is None else limits.max_delta,
        is_over_cap=limits is not None and any(_is_over_cap(history, name, limits) for name in names),
        epsilon=largest_bound([cohort.epsilon for cohort in cohorts]),
        epsilon_alone=largest_bound([cohort.epsilon_alone for cohort in cohorts]),
        num_secure_sums=sum(isinstance(each, Reserved) and each.own_share is not None for each in contents),
        attack_success=largest_bound([cohort.attack_success for cohort in cohorts]),
        mu=largest_bound([cohort.mu for cohort in cohorts]),
        is_noise_secret=all(cohort.is_noise_secret for cohort in cohorts),
        clock_went_back=times != sorted(times),
        num_unprotected=sum(isinstance(content, Unprotected) for content in contents),
        num_unanswered=len(unanswered(history.entries)),
        num_forgotten=len(history.forgotten),
        num_without_budget=0 if limits is None else len(without_budget(history, limits)),
        successor=head.content.successor if isinstance(head.content, Retired) else None,
        cohorts=cohorts,
    )


def _require_entry(history: History, digest: str) -> None:
    if all(entry.digest != digest for entry in history.entries):
        raise LedgerError(f"Expected the entry {digest[:SHORT]} of the earlier report: the ledger was replaced.")


def largest_bound(values: Sequence[float | None]) -> float | None:
    """Return the largest of ``values``; None where one is not bounded (None), or there is none.

    >>> largest_bound([1.5, 2.0]), largest_bound([1.5, None])
    (2.0, None)
    """
    bounded = [value for value in values if value is not None]
    return max(bounded) if bounded and len(bounded) == len(values) else None


def _is_over_cap(history: History, name: str, limits: Limits) -> bool:
    return not all(map(limits.allow, heaviest_spending(history, history.members[name])))


def _cohort(history: History, name: str, delta: float | None, limits: Limits | None) -> CohortReport:
    members = history.members[name]
    around = history.releases(members)
    own = [release for release in around if release.cohort == name]
    spending = heaviest_spending(history, members)
    # Without a delta there is no private release, and so no price to compare.
    most = spending[0] if delta is None else dearest(spending, delta)
    private = [release for release in most if isinstance(release, Reserved)]
    total = bounded_epsilon(most, delta)
    second = renyi = success = None
    if total is not None and delta is not None:
        steps = merge_equal_steps(release.mechanism for release in private)
        second = epsilon_prv(steps, delta) if total <= MAX_SECOND_EPSILON else None
        renyi, success = finite(epsilon_rdp(steps, delta)), _attack_success(steps, total, delta)
    return CohortReport(
        cohort=name[:SHORT],
        num_patients=len(members),
        num_overlapping=len(history.overlapping(members)) - 1,
        runs=runs_of(history, name),
        num_unprotected=sum(isinstance(release, Unprotected) for release in around),
        is_noise_secret=all(r.noise is NoiseSource.SECURE for r in around if isinstance(r, Reserved)),
        own_epsilon=bounded_epsilon(own, delta),
        epsilon=total,
        epsilon_alone=None if delta is None else _most_alone(spending, delta),
        mu=None if total is None else largest_bound([gaussian_mu_of(releases) for releases in spending]),
        attack_success=success,
        epsilon_second=second,
        epsilon_renyi=renyi,
        accountants_agree=None
        if total is None or second is None
        else abs(second - total) <= agreement_tolerance(total),
        rounds_left=None if limits is None else _rounds_left(history, own, limits),
        course=() if total is None else _course(private, delta),
    )


def _most_alone(spending: Sequence[Releases], delta: float) -> float | None:
    return bounded_epsilon(dearest(spending, delta, epsilon_alone), delta, epsilon_alone)


def _attack_success(steps: Sequence[Mechanism], epsilon: float, delta: float) -> float:
    """Return an upper bound on the accuracy of any test for one patient's presence, from even odds before.

    The smaller of (e^epsilon + delta) / (1 + e^epsilon) (Kairouz et al. 2015, Theorem 2.1) and of the Gaussian bound
    Phi(mu / 2) (Dong et al. 2022, Section 2), with every patient counted as part of every step: sampling only helps.
    """
    by_epsilon = 1 - (1 - delta) * math.exp(-epsilon) / (1 + math.exp(-epsilon))
    mu = math.sqrt(math.fsum(step.num_steps / step.noise_multiplier**2 for step in steps))
    return min(by_epsilon, 0.5 + 0.5 * math.erf(mu / 2 / math.sqrt(2)))


def _course(releases: Sequence[Reserved], delta: float | None) -> tuple[tuple[int, float], ...]:
    """Return epsilon after the first and the last release and up to ``MAX_COURSE_POINTS`` in all between them."""
    num_points = min(len(releases), MAX_COURSE_POINTS)
    counts = sorted({round(len(releases) * (index + 1) / num_points) for index in range(num_points)} | {1})
    priced = ((count, bounded_epsilon(releases[:count], delta)) for count in counts)
    return tuple((count, value) for count, value in priced if value is not None)


def _rounds_left(history: History, own: Sequence[Reserved | Unprotected], limits: Limits) -> int | None:
    """Return how many more releases like the last of ``own`` the site grants, at most ``MAX_ROUNDS_LEFT``."""
    last = next((release for release in reversed(own) if isinstance(release, Reserved)), None)
    if last is None or limits.granted_alone is None:
        return None
    past = history.releases_for(last.purpose)
    low, high = 0, MAX_ROUNDS_LEFT + 1
    while high - low > 1:
        middle = (low + high) // 2
        is_granted = limits.allow([*past, _repeated(last, middle)])
        low, high = (middle, high) if is_granted else (low, middle)
    return low


def _repeated(release: Reserved, count: int) -> Reserved:
    """Return one release of as many steps as ``count`` of them have."""
    share = release.own_share
    return dataclasses.replace(
        release,
        mechanism=_of_steps(release.mechanism, count),
        own_share=None if share is None else _of_steps(share, count),
    )


def _of_steps(mechanism: Mechanism, count: int) -> Mechanism:
    return dataclasses.replace(mechanism, num_steps=mechanism.num_steps * count)
