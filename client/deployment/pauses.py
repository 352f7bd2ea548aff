"""Pauses between two looks for a message: short after one, longer the longer none comes."""

import time
from collections.abc import Callable

_SHORTEST_SECONDS, _GROWTH = 0.05, 1.25


class Pauses:
    """Each pause is a quarter longer than the one before, so that a message waits for a fifth of the silence or so.

    Whoever waits long looks seldom, and costs next to nothing.
    """

    def __init__(self, sleep: Callable[[float], object] = time.sleep) -> None:
        """Wait by ``sleep``."""
        self._sleep = sleep
        self._next = _SHORTEST_SECONDS

    def sleep(self, longest: float) -> None:
        """Wait a quarter longer than the last time, and never longer than ``longest``, in seconds."""
        self._sleep(min(self._next, longest))
        self._next = min(_GROWTH * self._next, longest)

    def shorten(self) -> None:
        """Begin with a short pause again."""
        self._next = _SHORTEST_SECONDS
