"""The checks before a start as a person reads them."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.deployment.checks import Check, Status

_STYLES = {Status.OK: "[green]ok[/]", Status.WARNING: "[yellow]warning[/]", Status.FAILED: "[bold red]FAILED[/]"}


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """Print a row for every check."""
    table = Table(title="Preflight")
    for name in ("check", "status", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for check in checks:
        table.add_row(check.name, _STYLES[check.status], Text(check.detail), Text(check.remedy))
    console.print(table)
