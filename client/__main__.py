"""``python -m client``: what a person at a hospital does with this site's own files."""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.deployment.preflight import Check, Status, may_start, preflight
from client.deployment.site_file import SiteFile
from client.privacy.report import PrivacyReport
from client.privacy.report_figures import report_on
from client.privacy.report_formats import print_report, to_csv, to_json
from client.privacy.report_html import to_html
from shared_model.config.fingerprints import source_fingerprint
from shared_model.errors import ConfigError
from shared_model.system.files import write_atomically
from shared_model.system.processes import stop_on_signals
from shared_model.system.terminal import log_to_stderr, print_error

_USAGE_ERROR = 2
_STYLES = {Status.OK: "[green]ok[/]", Status.WARNING: "[yellow]warning[/]", Status.FAILED: "[bold red]FAILED[/]"}
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
    for name, text in (
        ("preflight", "check everything that this site's process needs"),
        ("start", "answer the coordinator's requests until Ctrl-C"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--site", type=Path, default=Path("site.yaml"), help="default site.yaml")
    chosen = parser.parse_args(arguments)
    return _COMMANDS[chosen.command](chosen)


def _fingerprint(_chosen: argparse.Namespace) -> int:
    Console().print(source_fingerprint(), highlight=False, soft_wrap=True)
    return 0


def _preflight(chosen: argparse.Namespace) -> int:
    checks = _checked(chosen.site)
    return 0 if checks is not None and may_start(checks) else 1


def _checked(path: Path) -> list[Check] | None:
    """Print the checks of the site; None where its file cannot be read."""
    try:
        checks = preflight(SiteFile.load(path))
    except ConfigError as error:
        print_error(str(error))
        return None
    table = Table(title="Preflight")
    for name in ("check", "status", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for check in checks:
        table.add_row(check.name, _STYLES[check.status], Text(check.detail), Text(check.remedy))
    Console().print(table)
    return checks


def _start(chosen: argparse.Namespace) -> int:
    # Torch and Flower take seconds to import, which the other commands need not wait for.
    from client.app import app  # noqa: PLC0415
    from client.deployment import supernode  # noqa: PLC0415

    checks = _checked(chosen.site)
    if checks is None or not may_start(checks):
        print_error("Expected every check to pass before the site takes part.")
        return 1
    log_to_stderr(logging.INFO)
    # It would log every poll.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    site = SiteFile.load(chosen.site)
    Console().print(f"{site.site} answers {site.server}; stop with Ctrl-C.", highlight=False, soft_wrap=True)
    supernode.serve(site, app, stop=stop_on_signals())
    return 0


def _privacy_report(chosen: argparse.Namespace) -> int:
    console = Console()
    try:
        writers = {path: _writer(path) for path in chosen.out}
        report = report_on(
            chosen.ledger, delta=chosen.delta, max_epsilon=chosen.max_epsilon, expect_head=chosen.expect_head
        )
        for path, write in writers.items():
            write_atomically(path, write(report).encode())
    except (ValueError, OSError) as error:
        print_error(str(error))
        return _USAGE_ERROR
    if report.problem is not None:
        print_error(f"NOT VERIFIED. {report.problem}")
        return 1
    print_report(report, console)
    return 0


def _writer(path: Path) -> Callable[[PrivacyReport], str]:
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"Expected --out={path} to end in {', '.join(_WRITERS)}.")
    return _WRITERS[path.suffix.lower()]


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "fingerprint": _fingerprint,
    "privacy-report": _privacy_report,
    "preflight": _preflight,
    "start": _start,
}


if __name__ == "__main__":
    sys.exit(main())
