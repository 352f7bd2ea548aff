"""The privacy report as JSON, as CSV and on a terminal; no format holds a figure of a ledger that was not verified."""

import csv
import dataclasses
import io
import json
from decimal import ROUND_CEILING, Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.privacy.report.contents import CohortReport, PrivacyReport, RunReport
from shared_model.config.choices import NoiseSource

_COLUMNS = ("cohort", "patients", "run", "purpose", "sent", "noise", "epsilon", "in all", "left")
_COHORT_FIELDS = ("cohort", "num_patients", "cohort_epsilon", "cohort_delta")


def shown(epsilon: float | None) -> str:
    """Return ``epsilon`` rounded up to three decimals, as no report may name less than was spent.

    >>> shown(1.0001), shown(None)
    ('1.001', 'unbounded')
    """
    if epsilon is None:
        return "unbounded"
    return str(Decimal(epsilon).quantize(Decimal("0.001"), ROUND_CEILING))


def to_json(report: PrivacyReport) -> str:
    """Return the report as JSON; figures are not rounded, and one without a bound is null."""
    return json.dumps(dataclasses.asdict(report), indent=2, allow_nan=False) + "\n"


def to_csv(report: PrivacyReport) -> str:
    """Return one row per cohort, run and purpose; an epsilon without a bound reads ``unbounded``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if report.problem is not None:
        writer.writerows([["NOT VERIFIED"], [report.problem]])
        return text.getvalue()
    fields = [field.name for field in dataclasses.fields(RunReport)]
    writer.writerow([*_COHORT_FIELDS, *fields])
    for cohort in report.cohorts:
        about = [cohort.cohort, cohort.num_patients, _or_unbounded(cohort.epsilon), report.delta]
        for run in cohort.runs:
            values = dataclasses.asdict(run) | {"epsilon": _or_unbounded(run.epsilon)}
            writer.writerow([*about, *(values[name] for name in fields)])
    return text.getvalue()


def print_report(report: PrivacyReport, console: Console) -> None:
    """Print the table of a verified report and what a person must not overlook."""
    delta = "" if report.delta is None else f" at delta {report.delta:g}"
    table = Table(title=f"Privacy spent{delta}; {report.num_entries} chained entries verified", padding=0)
    for name in _COLUMNS:
        table.add_column(name, no_wrap=True)
    for cohort in report.cohorts:
        for run in cohort.runs:
            table.add_row(*(Text(cell) for cell in _cells(cohort, run)))
    console.print(table)
    if not report.is_noise_secret:
        _print(console, "SEEDED noise: whoever knows the seed can remove it; those runs protected nobody.", "bold red")
    if report.is_over_cap:
        _print(console, "More was spent than this site's policy grants.", "bold red")
    if any(cohort.num_unprotected for cohort in report.cohorts):
        _print(console, "Something was released without noise: nothing bounds what it revealed.", "bold red")
    if report.clock_went_back:
        _print(console, "The site's clock went backwards between entries; dates may be wrong.", "bold red")
    _print(console, f"Head {report.head}", "")


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
        shown(cohort.epsilon),
        "-" if cohort.rounds_left is None else str(cohort.rounds_left),
    )


def _or_unbounded(epsilon: float | None) -> float | str:
    return "unbounded" if epsilon is None else epsilon
