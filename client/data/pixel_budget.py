"""How much is decoded at once: threads wait for their turn while large images fill the memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class PixelBudget:
    """Pixels that may be at work at once; what needs more than all of them is at work alone."""

    def __init__(self, num_pixels: int) -> None:
        self._all = self._free = num_pixels
        self._changed = Condition()

    @contextmanager
    def taking(self, num_pixels: int) -> Iterator[None]:
        """Wait until ``num_pixels`` are free, and hold them inside the block."""
        taken = min(num_pixels, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()
