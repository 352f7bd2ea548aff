"""How every command of ours tells a person that it failed: one line on the standard error."""

from rich.console import Console


def print_error(reason: object) -> None:
    """Print ``error: reason`` in one line."""
    # A reason may hold what looks like markup, such as a path in brackets.
    line = f"error: {reason}"
    Console(stderr=True).print(line, style="bold red", highlight=False, markup=False, soft_wrap=True)
