"""A few of many, the same ones each time: what is looked at before a start, and drawn for a person."""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def evenly_spread(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most ``most`` >= 2 of the items, evenly spread, the first and the last among them.

    >>> evenly_spread("abcdefg", 3)
    ['a', 'd', 'g']
    """
    if len(items) <= most:
        return list(items)
    return [items[number * (len(items) - 1) // (most - 1)] for number in range(most)]
