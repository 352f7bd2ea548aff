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
        table.add_row(check.name, _STYLES[check.status], Text(_printable(check.detail)), Text(check.remedy))
    console.print(table)


def _printable(text: str) -> str:
    """Return ``text`` without what would steer the terminal: a table or a path may hold anything."""
    return "".join(character if character.isprintable() else " " for character in text)
