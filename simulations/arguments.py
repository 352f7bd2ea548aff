"""Argument types that the commands of this package share."""

import argparse
from collections.abc import Callable


def at_least(smallest: int) -> Callable[[str], int]:
    """Return the argument type of whole numbers from ``smallest``."""

    def number(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"expected {value} >= {smallest}")
        return value

    return number


def each_at_least(smallest: int) -> Callable[[str], tuple[int, ...]]:
    """Return the argument type of distinct whole numbers from ``smallest``, separated by commas."""

    def numbers(text: str) -> tuple[int, ...]:
        values = tuple(at_least(smallest)(part) for part in text.split(","))
        if len(set(values)) < len(values):
            raise argparse.ArgumentTypeError(f"expected {text} to be distinct")
        return values

    return numbers
