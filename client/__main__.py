"""``python -m client``: what a person at a hospital does with this site's own files."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client.privacy_report import PrivacyReport, report_on, to_csv, to_json
from client.privacy_report_html import to_html
from shared_model.files import write_atomically
from shared_model.provenance import source_fingerprint

_USAGE_ERROR = 2
_WRITERS = {".html": to_html, ".json": to_json, ".csv": to_csv}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 when the ledger was verified."""
    parser = argparse.ArgumentParser(prog="python -m client", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fingerprint", help="print the fingerprint of the source code installed here")
    report = commands.add_parser("privacy-report", help="what the ledger says this site's patients have spent")
    report.add_argument("--ledger", type=Path, required=True)
    report.add_argument(
        "--out", type=Path, action="append", default=[], help=".html, .json or .csv; may be given several times"
    )
    report.add_argument("--delta", type=float, help="the delta of all figures; the largest recorded, if not given")
    report.add_argument("--max-epsilon", type=float, help="the site's cap, for the rounds left")
    report.add_argument("--expect-head", help="the head of an earlier report, which this ledger must contain")
    chosen = parser.parse_args(arguments)
    if chosen.command == "fingerprint":
        Console().print(source_fingerprint(), highlight=False, soft_wrap=True)
        return 0
    return _privacy_report(chosen)


def _privacy_report(chosen: argparse.Namespace) -> int:
    console, errors = Console(), Console(stderr=True)
    unknown = [str(path) for path in chosen.out if path.suffix not in _WRITERS]
    if unknown or (chosen.delta is not None and not 0 < chosen.delta < 1):
        what = f"--out={unknown[0]} to end in {', '.join(_WRITERS)}" if unknown else f"--delta={chosen.delta} in (0, 1)"
        errors.print(f"error: Expected {what}.", style="bold red", highlight=False, soft_wrap=True)
        return _USAGE_ERROR
    report = report_on(
        chosen.ledger, delta=chosen.delta, max_epsilon=chosen.max_epsilon, expect_head=chosen.expect_head
    )
    try:
        for path in chosen.out:
            write_atomically(path, _WRITERS[path.suffix](report).encode())
    except OSError as error:
        errors.print(f"error: Expected --out to be writable: {error}", style="bold red", highlight=False)
        return _USAGE_ERROR
    if report.problem is not None:
        errors.print(f"error: NOT VERIFIED. {report.problem}", style="bold red", highlight=False, soft_wrap=True)
        return 1
    _print(report, console)
    return 0


def _print(report: PrivacyReport, console: Console) -> None:
    table = Table(
        padding=0, title=f"Privacy spent at delta {report.delta or 0:g}; {report.num_entries} chained entries verified"
    )
    for name in ("cohort", "patients", "run", "purpose", "sent", "noise", "epsilon", "in all", "left"):
        table.add_column(name, no_wrap=True)
    for cohort in report.cohorts:
        total = "unbounded" if cohort.epsilon is None else f"{cohort.epsilon:.3f}"
        left = "-" if cohort.rounds_left is None else str(cohort.rounds_left)
        if not cohort.runs:
            table.add_row(cohort.cohort[:6], str(cohort.num_patients), "-", "-", "-", "none", "-", total, left)
        for run in cohort.runs:
            noise = "secret" if run.is_noise_secret else "SEEDED"
            cells = (run.run[:6], run.purpose, str(run.num_releases), noise, f"{run.epsilon:.3f}", total, left)
            table.add_row(cohort.cohort[:6], str(cohort.num_patients), *cells)
    console.print(table)
    console.print(f"Head {report.head}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
