"""How every command of ours tells a person what is wrong: on the standard error, a failure in one line."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Show log records from ``level`` on; of httpx, which would log every poll, no less than warnings."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])


def print_error(reason: object) -> None:
    """Print ``error: reason`` in one line."""
    line = " ".join(part.strip() for part in re.split(r"[\n\t]", str(reason)))
    _print(f"error: {line}", style="bold red")


def print_note(note: object) -> None:
    """Print what a person should know although nothing went wrong, in one line."""
    _print(str(note), style="")


@contextmanager
def on_interrupt(note: str) -> Iterator[None]:
    """Give Ctrl-C inside the block a note: what became of the work so far.

    Raises:
        KeyboardInterrupt: with ``note`` as its text.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(note) from interrupt


def _print(line: str, *, style: str) -> None:
    # A reason may hold what looks like markup, such as a path in brackets, or what would steer the terminal.
    line = "".join(character if character.isprintable() else " " for character in line)
    Console(stderr=True).print(line, style=style, highlight=False, markup=False, soft_wrap=True)
