"""The privacy report as JSON, as CSV and on a terminal; no format holds a figure of a ledger that was not verified."""

import dataclasses
import json
from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.privacy.report.contents import CohortReport, PrivacyReport, RunReport
from shared_model.config.choices import NoiseSource
from shared_model.system.spreadsheets import harmless_csv

_COLUMNS = ("cohort", "patients", "run", "purpose", "sent", "noise", "this run", "mu", "all runs", "left")
_COLUMNS_ALONE = ("run alone", "all alone")
"""With secure sums: the same to whoever breaks them."""
NOT_COVERED = (
    "exact histograms, time, the count of refused requests, images and tables at the site, and what people publish"
)
"""What leaves a site or lies there and has no price, for a person."""
_COHORT_FIELDS = ("cohort", "num_patients", "cohort_epsilon", "cohort_epsilon_alone", "cohort_delta")


def shown(epsilon: float | None) -> str:
    """Return ``epsilon`` rounded up to three decimals, as no report may name less than was spent.

    >>> shown(1.0001), shown(None)
    ('1.001', 'unbounded')
    """
    if epsilon is None:
        return "unbounded"
    return str(Decimal(epsilon).quantize(Decimal("0.001"), ROUND_CEILING))


def shown_mu(mu: float | None) -> str:
    """Return ``mu`` rounded up to two decimals; a dash where there is none.

    >>> shown_mu(1.841), shown_mu(None)
    ('1.85', '-')
    """
    return "-" if mu is None else str(Decimal(mu).quantize(Decimal("0.01"), ROUND_CEILING))


def shown_least(epsilon: float) -> str:
    """Return a lower bound rounded down to two decimals, as no report may name more than was proved.

    >>> shown_least(2.029)
    '2.02'
    """
    return str(Decimal(epsilon).quantize(Decimal("0.01"), ROUND_FLOOR))


def to_json(report: PrivacyReport) -> str:
    """Return the report as JSON; figures are not rounded, and one without a bound is null."""
    return json.dumps(dataclasses.asdict(report), indent=2, allow_nan=False) + "\n"


def to_csv(report: PrivacyReport) -> str:
    """Return one row per cohort, run and purpose; an epsilon without a bound reads ``unbounded``."""
    if report.problem is not None:
        return harmless_csv(["NOT VERIFIED"], [[report.problem]]).decode()
    fields, rows = [field.name for field in dataclasses.fields(RunReport)], []
    for cohort in report.cohorts:
        spent = [_or_unbounded(cohort.epsilon), _or_unbounded(cohort.epsilon_alone)]
        about = [cohort.cohort, cohort.num_patients, *spent, report.delta]
        for run in cohort.runs:
            values = dataclasses.asdict(run)
            values |= {name: _or_unbounded(values[name]) for name in ("epsilon", "epsilon_alone")}
            rows.append([*about, *(values[name] for name in fields)])
    return harmless_csv([*_COHORT_FIELDS, *fields], rows).decode()


def print_report(report: PrivacyReport, console: Console) -> None:
    """Print the table of a verified report and what a person must not overlook."""
    delta = "" if report.delta is None else f" at delta {report.delta:g}"
    covered = "the updates, noisy sums and noisy histograms in this ledger"
    _print(console, f"Covers {covered}. Not covered: {NOT_COVERED}.", "")
    table = Table(
        title=f"Privacy spent{delta}; {report.num_entries} chained entries verified",
        caption="this run: epsilon of the run alone. all runs: the most that a patient has spent in all. "
        "mu: of the run alone, without sampling."
        + (" run alone, all alone: the same to whoever breaks the secure sums." if report.num_secure_sums else ""),
        padding=0,
    )
    for name in (*_COLUMNS, *(_COLUMNS_ALONE if report.num_secure_sums else ())):
        table.add_column(name, no_wrap=True)
    for cohort in report.cohorts:
        for run in cohort.runs:
            alone = (shown(run.epsilon_alone), shown(cohort.epsilon_alone)) if report.num_secure_sums else ()
            table.add_row(*(Text(cell) for cell in (*_cells(cohort, run), *alone)))
    console.print(table)
    for line in _warnings(report):
        _print(console, line, "bold red")
    for line in _counts(report):
        _print(console, line, "")
    _print(console, f"Head {report.head}", "")


def _warnings(report: PrivacyReport) -> Iterator[str]:
    """Yield what must not be overlooked, a line each."""
    lines = (
        (
            not report.is_noise_secret,
            "SEEDED noise: whoever knows the seed can remove it; those runs protected nobody.",
        ),
        (report.is_over_cap, "More was spent than this site's policy grants."),
        (
            any(cohort.num_unprotected for cohort in report.cohorts),
            "Something was released without noise: nothing bounds what it revealed.",
        ),
        (report.successor is not None, f"This copy is retired: the ledger went on to {report.successor}."),
        (
            report.one_run is not None and report.one_run.is_violated,
            "The audit in one run proves more than was claimed.",
        ),
        (
            report.num_alarms > 0,
            f"Answers with fewer training patients than the site declares: {report.num_alarms}. See preflight.",
        ),
        (report.audit_problem is not None, f"Refusals are not counted: {report.audit_problem}"),
        (report.clock_went_back, "The site's clock went backwards between entries; dates may be wrong."),
    )
    yield from (line for is_so, line in lines if is_so)


def _counts(report: PrivacyReport) -> Iterator[str]:
    """Yield what was counted beside the releases, a line each."""
    if report.refusals is not None:
        yield f"Refused requests: {report.refusals.total}, today {report.refusals.today}."
        yield from (f"  {count} times: {reason}" for reason, count in report.refusals.by_reason)
        yield from (f"  {count} times for {key}" for key, count in report.refusals.by_key)
    without_budget = "Patients whose budget is too small for another release like the last"
    lines = (
        (report.num_unanswered, f"Reservations without a reply: {report.num_unanswered}; their budget is spent."),
        (
            report.num_recovered,
            f"Releases that the ledger had lost and that were entered again as spent: {report.num_recovered}.",
        ),
        (report.num_forgotten, f"{patients(report.num_forgotten)} part no longer; what they have spent stays spent."),
        (report.num_without_budget, f"{without_budget}: {report.num_without_budget}."),
    )
    yield from (line for count, line in lines if count)
    if report.one_run is not None:
        yield (
            f"Audit in one run: at least epsilon {shown_least(report.one_run.least_epsilon)}, claimed "
            f"{report.one_run.claimed_epsilon:.2f}, at delta {report.one_run.delta:g}."
        )


def patients(count: int) -> str:
    """Return how many take part, as a sentence begins.

    >>> patients(1), patients(2)
    ('1 patient takes', '2 patients take')
    """
    return "1 patient takes" if count == 1 else f"{count} patients take"


def _print(console: Console, line: str, style: str) -> None:
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def _cells(cohort: CohortReport, run: RunReport) -> tuple[str, ...]:
    return (
        cohort.cohort[:6],
        str(cohort.num_patients),
        run.run[:6],
        run.purpose,
        str(run.num_releases),
        "SEEDED" if run.noise == NoiseSource.SEEDED else run.noise,
        shown(run.epsilon),
        shown_mu(run.mu),
        shown(cohort.epsilon),
        "-" if cohort.rounds_left is None else str(cohort.rounds_left),
    )


def _or_unbounded(epsilon: float | None) -> float | str:
    return "unbounded" if epsilon is None else epsilon
