"""One measured step of one size, and how costs grow with sizes."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from simulations.benchmarks.cost.parts import CostPart
from simulations.benchmarks.process_memory import PEAK, memory_bytes

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """Time and memory of a step."""

    part: CostPart
    step: str
    size: int
    unit: str
    """What ``size`` counts."""
    processor_seconds: float
    """Of all threads; other work on the machine hardly moves it."""
    elapsed_seconds: float
    peak_bytes: int
    """Of resident memory until the step's end, libraries included."""
    num_messages: int | None = None
    """Requests and replies that a site took and gave; None where there is no network."""
    num_bytes: int | None = None
    """Of a site's connections, both ways, as TLS sends them; None where there is no network."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """What a part's steps are measured for."""

    part: CostPart
    count: int
    unit: str


def measured(size: Size, step: str, action: Callable[[], object], *, num_repeats: int = 1) -> Step:
    """Do ``action`` and return what it cost: the median of ``num_repeats`` >= 1."""
    costs = [_timed(action) for _ in range(num_repeats)]
    return _step(size, step, costs, memory_bytes(PEAK))


def measured_in_turns(size: Size, actions: Mapping[str, Callable[[], object]], *, num_repeats: int) -> list[Step]:
    """Do actions in turns, so that a machine that slows down slows all, and return what each cost, by its name.

    Each is done once before, which does not count but for memory: an action's peak is that of it and those before it.

    Args:
        size: of all.
        actions: by the name of the step.
        num_repeats: whose median counts, at least 1.
    """
    peaks = {}
    for name, action in actions.items():
        action()
        peaks[name] = memory_bytes(PEAK)
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for _ in range(num_repeats):
        for name, action in actions.items():
            costs[name].append(_timed(action))
    return [_step(size, name, costs[name], peaks[name]) for name in actions]


def _timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return the processor time and the time of one call."""
    processor, elapsed = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - processor, time.perf_counter() - elapsed


def _step(size: Size, step: str, costs: Sequence[tuple[float, float]], peak_bytes: int) -> Step:
    return Step(
        part=size.part,
        step=step,
        size=size.count,
        unit=size.unit,
        processor_seconds=statistics.median(processor for processor, _ in costs),
        elapsed_seconds=statistics.median(elapsed for _, elapsed in costs),
        peak_bytes=peak_bytes,
    )


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float | None:
    """Return ``k`` for which costs grow as the ``k``-th power of the sizes, by least squares of their logarithms.

    1 is linear growth. None with fewer than two sizes, or where a cost is too small for the clock.

    >>> round(exponent([10, 100, 1000], [0.2, 2.0, 20.0]), 6)
    1.0
    """
    if len(set(sizes)) < 2 or min(costs) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
