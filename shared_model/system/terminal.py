"""How every command of ours tells a person what is wrong: on the standard error, a failure in one line."""

import logging

from rich.console import Console
from rich.logging import RichHandler


def log_to_stderr(level: int = logging.WARNING) -> Console:
    """Show log records from ``level`` on, and return the console of the standard error."""
    console = Console(stderr=True)
    logging.basicConfig(level=level, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)])
    return console


def print_error(reason: object) -> None:
    """Print ``error: reason`` in one line."""
    # A reason may hold what looks like markup, such as a path in brackets.
    line = f"error: {reason}"
    Console(stderr=True).print(line, style="bold red", highlight=False, markup=False, soft_wrap=True)
