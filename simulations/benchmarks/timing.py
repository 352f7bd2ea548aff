"""Times actions in turns, so that a machine that slows down slows all that are compared."""

import time
from collections.abc import Callable, Mapping


def interleaved(
    actions: Mapping[str, Callable[[], object]], *, num_repeats: int, before_each: Callable[[], None] | None = None
) -> dict[str, list[float]]:
    """Time every action ``num_repeats`` times, in turns, after one turn that does not count.

    Args:
        actions: by name.
        num_repeats: at least 1.
        before_each: called before each action, untimed.

    Returns:
        The seconds of each action, by name.

    Raises:
        ValueError: ``num_repeats`` is below 1.
    """
    if num_repeats < 1:
        raise ValueError(f"Expected num_repeats={num_repeats} >= 1.")
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(1 + num_repeats):
        for name, action in actions.items():
            if before_each is not None:
                before_each()
            start = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}
