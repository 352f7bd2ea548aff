"""What a site's ledger adds up to, for the people who answer for it: one report, four ways to read it."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

from client.ledger import read_history
from client.ledger_entries import Committed, Entry, History, Opened, Reserved, Unprotected, epsilon_of
from shared_model.accounting import Mechanism, epsilon_prv, epsilon_rdp, tolerance
from shared_model.choices import NoiseSource
from shared_model.errors import LedgerError

ADJACENCY = "add or remove one patient with all lesions"
MAX_ROUNDS_LEFT = 1000
"""Rounds left are counted no further."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunReport:
    """What one run has spent on a cohort, for one purpose."""

    run: str
    """Fingerprint of the run's configuration, shortened."""
    purpose: str
    first: str
    """ISO 8601."""
    last: str
    num_releases: int
    """Reservations, answered or not: all of them count."""
    num_unanswered: int
    """Those whose reply never left: spent in vain."""
    noise_multiplier: float
    """The smallest of the run."""
    sampling_rate: float
    """The largest of the run."""
    is_noise_secret: bool
    """False for seeded noise, which protects nobody."""
    delta: float
    epsilon: float
    """Of this run alone, at ``delta``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CohortReport:
    """What the patients of one cohort have spent."""

    cohort: str
    """Fingerprint, shortened."""
    num_patients: int
    num_overlapping: int
    """Other cohorts with a patient in common, whose spending is counted here as well."""
    runs: tuple[RunReport, ...]
    """Of this cohort itself."""
    num_unprotected: int
    """Runs, overlapping cohorts included, that released something without noise; then nothing bounds the total."""
    epsilon: float | None
    """Of everything, overlapping cohorts included, at the report's delta; None where nothing bounds it."""
    epsilon_second: float | None
    """The same by an independent accountant."""
    epsilon_renyi: float | None
    """The same by a looser bound, as a sanity check."""
    accountants_agree: bool | None
    rounds_left: int | None
    """At the last release's noise, below the site's cap; None without a cap or where nothing bounds the total."""
    course: tuple[float, ...]
    """Epsilon after each release, in order; empty where nothing bounds it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyReport:
    """A whole ledger; without figures where the ledger cannot be trusted."""

    ledger: str
    head: str
    """Digest of the last entry: a signed report with it pins everything before."""
    num_entries: int
    problem: str | None
    """Why the ledger is not to be trusted; None when the chain was verified."""
    unit: str = "patient"
    adjacency: str = ADJACENCY
    delta: float | None
    max_epsilon: float | None
    epsilon: float | None
    """The most that any patient of the site has spent; None where nothing bounds it, or there is nothing."""
    clock_went_back: bool
    cohorts: tuple[CohortReport, ...]


def report_on(
    path: Path, *, delta: float | None = None, max_epsilon: float | None = None, expect_head: str | None = None
) -> PrivacyReport:
    """Read and verify the ledger at ``path`` and add it up.

    Args:
        path: the ledger.
        delta: at which epsilons are given; None takes the largest that any release names.
        max_epsilon: the site's cap, for the rounds left.
        expect_head: the head of an earlier report, which must still be in the chain.
    """
    try:
        history = read_history(path)
    except LedgerError as error:
        return _unverified(str(error), delta=delta, max_epsilon=max_epsilon)
    if expect_head is not None and all(entry.digest != expect_head for entry in history.entries):
        problem = f"Expected the entry {expect_head[:12]} of the earlier report: the ledger was replaced."
        return _unverified(problem, delta=delta, max_epsilon=max_epsilon)
    return summarise(history, delta=delta, max_epsilon=max_epsilon)


def _unverified(problem: str, *, delta: float | None, max_epsilon: float | None) -> PrivacyReport:
    return PrivacyReport(
        ledger="",
        head="",
        num_entries=0,
        problem=problem,
        delta=delta,
        max_epsilon=max_epsilon,
        epsilon=None,
        clock_went_back=False,
        cohorts=(),
    )


def summarise(history: History, *, delta: float | None, max_epsilon: float | None) -> PrivacyReport:
    """Add up a verified history; see ``report_on``."""
    reserved = [entry.content for entry in history.entries if isinstance(entry.content, Reserved)]
    if delta is None:
        delta = max((release.delta for release in reserved), default=None)
    names = dict.fromkeys(
        entry.content.cohort for entry in history.entries if isinstance(entry.content, Reserved | Unprotected)
    )
    cohorts = tuple(_cohort(history, name, delta, max_epsilon) for name in names)
    opened, times = history.entries[0].content, [entry.time for entry in history.entries]
    totals = [cohort.epsilon for cohort in cohorts]
    return PrivacyReport(
        ledger=opened.ledger if isinstance(opened, Opened) else "",
        head=history.entries[-1].digest,
        num_entries=len(history.entries),
        problem=None,
        delta=delta,
        max_epsilon=max_epsilon,
        epsilon=None if None in totals else max((total for total in totals if total is not None), default=None),
        clock_went_back=times != sorted(times),
        cohorts=cohorts,
    )


def to_json(report: PrivacyReport) -> str:
    """Return the report as JSON; no figure is NaN or infinite."""
    return json.dumps(dataclasses.asdict(report), indent=2, allow_nan=False) + "\n"


def to_csv(report: PrivacyReport) -> str:
    """Return one row per cohort, run and purpose."""
    if report.problem is not None:
        return f"not verified\n{json.dumps(report.problem)}\n"
    text = io.StringIO()
    fields = [field.name for field in dataclasses.fields(RunReport)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["cohort", "num_patients", "cohort_epsilon", *fields])
    for cohort in report.cohorts:
        total = "unbounded" if cohort.epsilon is None else cohort.epsilon
        for run in cohort.runs:
            writer.writerow([cohort.cohort, cohort.num_patients, total, *(getattr(run, name) for name in fields)])
    return text.getvalue()


def _cohort(history: History, name: str, delta: float | None, max_epsilon: float | None) -> CohortReport:
    members = history.members[name]
    releases = history.releases(members)
    unprotected = [release for release in releases if isinstance(release, Unprotected)]
    private = [release for release in releases if isinstance(release, Reserved)]
    course: list[float] = []
    second = renyi = None
    if delta is not None and not unprotected:
        course = [epsilon_of(private[: i + 1], delta) for i in range(len(private))]
        mechanisms = [release.mechanism for release in private]
        second, renyi = _finite(epsilon_prv(mechanisms, delta)), _finite(epsilon_rdp(mechanisms, delta))
    total = _finite(course[-1]) if course else None
    return CohortReport(
        cohort=name[:12],
        num_patients=len(members),
        num_overlapping=len(history.overlapping(members)) - 1,
        runs=_runs(history.entries, name),
        num_unprotected=len(unprotected),
        epsilon=total,
        epsilon_second=second,
        epsilon_renyi=renyi,
        accountants_agree=None if total is None else second is not None and abs(second - total) <= tolerance(total),
        rounds_left=None if total is None or max_epsilon is None else _rounds_left(private, delta, max_epsilon),
        course=tuple(course),
    )


def _runs(entries: Sequence[Entry], cohort: str) -> tuple[RunReport, ...]:
    answered = {entry.content.reservation for entry in entries if isinstance(entry.content, Committed)}
    groups: dict[tuple[str, str], list[tuple[Entry, Reserved]]] = {}
    for entry in entries:
        if isinstance(entry.content, Reserved) and entry.content.cohort == cohort:
            groups.setdefault((entry.content.run, entry.content.purpose), []).append((entry, entry.content))
    reports = []
    for (run, purpose), group in groups.items():
        releases = [release for _, release in group]
        delta = max(release.delta for release in releases)
        reports.append(
            RunReport(
                run=run[:12],
                purpose=purpose,
                first=group[0][0].time.isoformat(),
                last=group[-1][0].time.isoformat(),
                num_releases=len(group),
                num_unanswered=sum(entry.sequence not in answered for entry, _ in group),
                noise_multiplier=min(release.mechanism.noise_multiplier for release in releases),
                sampling_rate=max(release.mechanism.sampling_rate for release in releases),
                is_noise_secret=all(release.noise is NoiseSource.SECURE for release in releases),
                delta=delta,
                epsilon=epsilon_of(releases, delta),
            )
        )
    return tuple(reports)


def _rounds_left(releases: Sequence[Reserved], delta: float | None, max_epsilon: float) -> int:
    """Return how many more releases like the last one stay below the cap, at most ``MAX_ROUNDS_LEFT``."""
    if delta is None or not releases:
        return 0
    last = releases[-1].mechanism

    def fits(count: int) -> bool:
        more = Mechanism(
            noise_multiplier=last.noise_multiplier, sampling_rate=last.sampling_rate, num_steps=last.num_steps * count
        )
        return epsilon_of([*releases, dataclasses.replace(releases[-1], mechanism=more)], delta) <= max_epsilon

    low, high = 0, MAX_ROUNDS_LEFT + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
