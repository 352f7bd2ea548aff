"""``python -m client``: what a person at a hospital does with this site's own files."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from client.privacy_report import PrivacyReport, report_on
from client.privacy_report_formats import print_report, to_csv, to_json
from client.privacy_report_html import to_html
from shared_model.files import write_atomically
from shared_model.provenance import source_fingerprint

_USAGE_ERROR = 2
_WRITERS: Mapping[str, Callable[[PrivacyReport], str]] = {".html": to_html, ".json": to_json, ".csv": to_csv}


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
    try:
        writers = {path: _writer(path) for path in chosen.out}
        report = report_on(
            chosen.ledger, delta=chosen.delta, max_epsilon=chosen.max_epsilon, expect_head=chosen.expect_head
        )
        for path, write in writers.items():
            write_atomically(path, write(report).encode())
    except (ValueError, OSError) as error:
        _print_error(errors, str(error))
        return _USAGE_ERROR
    if report.problem is not None:
        _print_error(errors, f"NOT VERIFIED. {report.problem}")
        return 1
    print_report(report, console)
    return 0


def _writer(path: Path) -> Callable[[PrivacyReport], str]:
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"Expected --out={path} to end in {', '.join(_WRITERS)}.")
    return _WRITERS[path.suffix.lower()]


def _print_error(console: Console, reason: str) -> None:
    # A path may hold what looks like markup.
    console.print(f"error: {reason}", style="bold red", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
