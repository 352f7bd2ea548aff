"""A limit of time for one piece of work, asked for between its parts."""

import math
import time
from collections.abc import Callable

from shared_model.errors import TimeLimitError


class Deadline:
    """Passed so many seconds after it was made; work that asks between its parts stops after the part under way."""

    def __init__(self, seconds: float | None, *, now: Callable[[], float] = time.monotonic) -> None:
        """Begin to count; None sets no limit."""
        self._seconds, self._now, self._started = math.inf if seconds is None else seconds, now, now()

    def require(self, *_: object) -> None:
        """Check that time is left; arguments are ignored, so that this may be a hook or a callback.

        Raises:
            TimeLimitError: it is not.
        """
        if self._now() - self._started > self._seconds:
            raise TimeLimitError(
                f"Expected a request to take at most {self._seconds:g} s, as the site's policy has it."
            )
