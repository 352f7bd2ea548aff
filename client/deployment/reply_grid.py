"""When replies leave: at whole multiples of an interval, so that the time of one tells little of the work behind it."""

import math


def seconds_to_wait(elapsed: float, grid: float | None) -> float:
    """Return for how long a reply is held back that was ready ``elapsed`` seconds after its request came.

    Args:
        elapsed: at least 0.
        grid: seconds; None holds nothing back.

    >>> seconds_to_wait(0.25, 1.0), seconds_to_wait(3.0, 1.0), seconds_to_wait(0.25, None)
    (0.75, 0.0, 0.0)
    """
    if grid is None:
        return 0.0
    return max(0.0, math.ceil(elapsed / grid) * grid - elapsed)
