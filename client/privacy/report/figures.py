"""The figures of a privacy report, from a verified ledger."""

import dataclasses
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Committed, Entry, Opened, Reserved, Unprotected
from client.privacy.ledger_history import History, Limits, composed_epsilon
from client.privacy.report.contents import (
    MAX_ROUNDS_LEFT,
    MAX_SECOND_EPSILON,
    NO_NOISE,
    CohortReport,
    PrivacyReport,
    RunReport,
)
from shared_model.config.choices import NoiseSource
from shared_model.errors import LedgerError
from shared_model.privacy.cross_check import agreement_tolerance, epsilon_prv, epsilon_rdp
from shared_model.privacy.mechanism import Mechanism, merge_equal_steps

MAX_COURSE_POINTS = 50
"""The course of epsilon is priced at no more places: one price below sampling rate 1 takes up to a second."""
_SHORT = 12


def report_on(
    path: Path, *, delta: float | None = None, limits: Limits | None = None, expect_head: str | None = None
) -> PrivacyReport:
    """Read and verify the ledger at ``path`` and add it up.

    Args:
        path: the ledger.
        delta: at which epsilons are given, in (0, 1); None takes that of ``limits``, and without limits the largest
            that any release names.
        limits: what the site's policy grants, for the rounds left.
        expect_head: the head of an earlier report, which must still be in the chain.

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
            max_delta=None if limits is None else limits.max_delta,
            is_over_cap=False,
            epsilon=None,
            attack_success=None,
            is_noise_secret=False,
            clock_went_back=False,
            cohorts=(),
        )
    return _summarise(history, created=created, delta=delta, limits=limits)


def _summarise(history: History, *, created: datetime, delta: float | None, limits: Limits | None) -> PrivacyReport:
    """Add up a verified history of one entry or more; see ``report_on``."""
    contents = [entry.content for entry in history.entries]
    if delta is None:
        delta = max((content.delta for content in contents if isinstance(content, Reserved)), default=None)
    names = dict.fromkeys(content.cohort for content in contents if isinstance(content, Reserved | Unprotected))
    cohorts = tuple(_cohort(history, name, delta, limits) for name in names)
    times = [entry.time for entry in history.entries]
    return PrivacyReport(
        created=created.isoformat(timespec="seconds"),
        ledger=contents[0].ledger if isinstance(contents[0], Opened) else "",
        head=history.entries[-1].digest,
        num_entries=len(contents),
        problem=None,
        delta=delta,
        max_epsilon=None if limits is None else limits.max_epsilon,
        max_delta=None if limits is None else limits.max_delta,
        is_over_cap=limits is not None and any(_is_over_cap(history, name, limits) for name in names),
        epsilon=largest_bound([cohort.epsilon for cohort in cohorts]),
        attack_success=largest_bound([cohort.attack_success for cohort in cohorts]),
        is_noise_secret=all(cohort.is_noise_secret for cohort in cohorts),
        clock_went_back=times != sorted(times),
        cohorts=cohorts,
    )


def _require_entry(history: History, digest: str) -> None:
    if all(entry.digest != digest for entry in history.entries):
        raise LedgerError(f"Expected the entry {digest[:_SHORT]} of the earlier report: the ledger was replaced.")


def largest_bound(values: Sequence[float | None]) -> float | None:
    """Return the largest of ``values``; None where one is not bounded (None), or there is none.

    >>> largest_bound([1.5, 2.0]), largest_bound([1.5, None])
    (2.0, None)
    """
    bounded = [value for value in values if value is not None]
    return max(bounded) if bounded and len(bounded) == len(values) else None


def _is_over_cap(history: History, name: str, limits: Limits) -> bool:
    if limits.max_epsilon is None:
        return False
    return composed_epsilon(history.releases(history.members[name]), limits.max_delta) > limits.max_epsilon


def _cohort(history: History, name: str, delta: float | None, limits: Limits | None) -> CohortReport:
    members = history.members[name]
    releases = history.releases(members)
    of_cohort = [release for release in releases if release.cohort == name]
    private = [release for release in releases if isinstance(release, Reserved)]
    total = _bounded_epsilon(releases, delta)
    second = renyi = success = None
    if total is not None and delta is not None:
        steps = merge_equal_steps(release.mechanism for release in private)
        second = epsilon_prv(steps, delta) if total <= MAX_SECOND_EPSILON else None
        renyi, success = _finite(epsilon_rdp(steps, delta)), _attack_success(steps, total, delta)
    return CohortReport(
        cohort=name[:_SHORT],
        num_patients=len(members),
        num_overlapping=len(history.overlapping(members)) - 1,
        runs=_runs(history.entries, name),
        num_unprotected=len(releases) - len(private),
        is_noise_secret=all(release.noise is NoiseSource.SECURE for release in private),
        own_epsilon=_bounded_epsilon(of_cohort, delta),
        epsilon=total,
        attack_success=success,
        epsilon_second=second,
        epsilon_renyi=renyi,
        accountants_agree=None
        if total is None or second is None
        else abs(second - total) <= agreement_tolerance(total),
        rounds_left=None if limits is None else _rounds_left(releases, of_cohort, limits),
        course=() if total is None else _course(private, delta),
    )


def _attack_success(steps: Sequence[Mechanism], epsilon: float, delta: float) -> float:
    """Return an upper bound on the accuracy of any test for one patient's presence, from even odds before.

    The smaller of (e^epsilon + delta) / (1 + e^epsilon) (Kairouz et al. 2015, Theorem 2.1) and of the Gaussian bound
    Phi(mu / 2) (Dong et al. 2022, Section 2), with every patient counted as part of every step: sampling only helps.
    """
    by_epsilon = 1 - (1 - delta) * math.exp(-epsilon) / (1 + math.exp(-epsilon))
    mu = math.sqrt(math.fsum(step.num_steps / step.noise_multiplier**2 for step in steps))
    return min(by_epsilon, 0.5 + 0.5 * math.erf(mu / 2 / math.sqrt(2)))


def _runs(entries: Sequence[Entry], cohort: str) -> tuple[RunReport, ...]:
    answered = frozenset(entry.content.reservation for entry in entries if isinstance(entry.content, Committed))
    groups: dict[tuple[str, str, bool], list[Entry]] = {}
    for entry in entries:
        content = entry.content
        if isinstance(content, Reserved | Unprotected) and content.cohort == cohort:
            groups.setdefault((content.run, content.purpose, isinstance(content, Reserved)), []).append(entry)
    return tuple(_run(group, answered) for group in groups.values())


def _run(group: Sequence[Entry], answered: frozenset[int]) -> RunReport:
    """Return the report of entries of one run, purpose and cohort, either all with noise or all without."""
    contents = [entry.content for entry in group if isinstance(entry.content, Reserved | Unprotected)]
    private = [content for content in contents if isinstance(content, Reserved)]
    rounds = {
        entry.content.server_round
        for entry in group
        if isinstance(entry.content, Reserved) and entry.sequence in answered
    }
    sources = {release.noise for release in private}
    delta = max((release.delta for release in private), default=None)
    return RunReport(
        run=contents[0].run[:_SHORT],
        purpose=contents[0].purpose,
        first=group[0].time.isoformat(timespec="seconds"),
        last=group[-1].time.isoformat(timespec="seconds"),
        num_patients_declared=contents[-1].num_patients_declared,
        num_rounds_answered=len(rounds),
        num_releases=len(private),
        num_unanswered=sum(entry.sequence not in answered for entry in group) if private else 0,
        noise=NoiseSource.SEEDED if NoiseSource.SEEDED in sources else next(iter(sources), NO_NOISE),
        noise_multiplier=min((release.mechanism.noise_multiplier for release in private), default=None),
        sampling_rate=max((release.mechanism.sampling_rate for release in private), default=None),
        target_epsilon=max((release.target_epsilon for release in private), default=None),
        delta=delta,
        epsilon=_bounded_epsilon(contents, delta),
    )


def _course(releases: Sequence[Reserved], delta: float | None) -> tuple[tuple[int, float], ...]:
    """Return epsilon after the first and the last release and up to ``MAX_COURSE_POINTS`` in all between them."""
    num_points = min(len(releases), MAX_COURSE_POINTS)
    counts = sorted({round(len(releases) * (index + 1) / num_points) for index in range(num_points)} | {1})
    priced = ((count, _bounded_epsilon(releases[:count], delta)) for count in counts)
    return tuple((count, value) for count, value in priced if value is not None)


def _rounds_left(
    releases: Sequence[Reserved | Unprotected], of_cohort: Sequence[Reserved | Unprotected], limits: Limits
) -> int | None:
    """Return how many more releases like the last of ``of_cohort`` fit the limit, at most ``MAX_ROUNDS_LEFT``."""
    last = next((release for release in reversed(of_cohort) if isinstance(release, Reserved)), None)
    if last is None or limits.max_epsilon is None:
        return None
    low, high = 0, MAX_ROUNDS_LEFT + 1
    while high - low > 1:
        middle = (low + high) // 2
        more = dataclasses.replace(last.mechanism, num_steps=last.mechanism.num_steps * middle)
        epsilon = composed_epsilon([*releases, dataclasses.replace(last, mechanism=more)], limits.max_delta)
        low, high = (middle, high) if epsilon <= limits.max_epsilon else (low, middle)
    return low


def _bounded_epsilon(releases: Sequence[Reserved | Unprotected], delta: float | None) -> float | None:
    return None if delta is None else _finite(composed_epsilon(releases, delta))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
