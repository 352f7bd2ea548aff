"""Flags and arguments that several commands of this package share, and what their values may be."""

import math
from collections.abc import Callable
from typing import Annotated

import typer


class Numbers(tuple[int, ...]):
    """Distinct whole numbers, separated by commas on the command line."""

    __slots__ = ()

    def __str__(self) -> str:
        return ",".join(map(str, self))


def at_least(smallest: int) -> Callable[[object], int]:
    """Return the parser of whole numbers from ``smallest``.

    >>> at_least(2)("3")
    3
    """

    def number(text: object) -> int:
        try:
            value = int(str(text))
        except ValueError:
            raise typer.BadParameter(f"expected {text!r} to be a whole number") from None
        if value < smallest:
            raise typer.BadParameter(f"expected {value} >= {smallest}")
        return value

    return number


def each_at_least(smallest: int) -> Callable[[object], Numbers]:
    """Return the parser of distinct whole numbers from ``smallest``, separated by commas.

    >>> each_at_least(0)("3,0,12")
    (3, 0, 12)
    """

    def numbers(text: object) -> Numbers:
        try:
            values = [int(part) for part in str(text).split(",")]
        except ValueError:
            raise typer.BadParameter(f"expected {str(text)!r} to be whole numbers, separated by commas") from None
        found = Numbers(map(at_least(smallest), values))
        if len(set(found)) < len(found):
            raise typer.BadParameter(f"expected {text} to be distinct")
        return found

    return numbers


def probability(text: object) -> float:
    """Parse a number in (0, 1).

    >>> probability("1e-4")
    0.0001
    """
    return _positive_below(text, 1, "in (0, 1)")


def positive(text: object) -> float:
    """Parse a finite number > 0.

    >>> positive("0.5")
    0.5
    """
    return _positive_below(text, math.inf, "> 0 and finite")


def _positive_below(text: object, high: float, expectation: str) -> float:
    try:
        value = float(str(text))
    except ValueError:
        raise typer.BadParameter(f"expected {text!r} to be a number") from None
    if not 0 < value < high:
        raise typer.BadParameter(f"expected {value} {expectation}")
    return value


# click 8.5 drops the help of arguments, so a command's own text says what they are.
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")]
ABOUT_OVERRIDES = "KEY=VALUE changes the configuration; fedmammo simulate --help names the keys."
Seed = Annotated[int, typer.Option(parser=at_least(0), metavar="NUMBER", help="The same seed draws the same again.")]
Seeds = Annotated[
    Numbers,
    typer.Option(parser=each_at_least(0), metavar="NUMBER,...", help="One series of runs for each."),
]
Workers = Annotated[
    int | None,
    typer.Option(parser=at_least(1), metavar="NUMBER", help="Runs at once; if not given 2, or 1 on a single core."),
]
Repeats = Annotated[
    int, typer.Option(parser=at_least(1), metavar="NUMBER", help="Repeats of every measurement, whose median counts.")
]
