"""One measured step of one size, how costs grow with sizes, and all of them as a table."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from simulations.benchmarks.process_memory import PEAK, memory_bytes

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """Time and memory of a step."""

    part: str
    step: str
    size: int
    unit: str
    """What ``size`` counts."""
    processor_seconds: float
    """Of all threads; other work on the machine hardly moves it."""
    elapsed_seconds: float
    peak_bytes: int
    """Of resident memory until the step's end, libraries included."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """What a part's steps are measured for."""

    part: str
    count: int
    unit: str


def measured(size: Size, step: str, action: Callable[[], object], *, num_repeats: int = 1) -> Step:
    """Do ``action`` and return what it cost: the median of ``num_repeats`` >= 1."""
    processor, elapsed = [], []
    for _ in range(num_repeats):
        times = time.process_time(), time.perf_counter()
        action()
        processor.append(time.process_time() - times[0])
        elapsed.append(time.perf_counter() - times[1])
    return Step(
        part=size.part,
        step=step,
        size=size.count,
        unit=size.unit,
        processor_seconds=statistics.median(processor),
        elapsed_seconds=statistics.median(elapsed),
        peak_bytes=memory_bytes(PEAK),
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


def to_markdown(steps: Sequence[Step]) -> str:
    """Return a table of the steps, in their order; growth is fitted to the processor time of all sizes of a step."""
    lines = [
        "| part | step | size | processor [s] | elapsed [s] | peak memory [MiB] | growth |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    groups: dict[tuple[str, str], list[Step]] = {}
    for step in steps:
        groups.setdefault((step.part, step.step), []).append(step)
    for (part, name), group in groups.items():
        growth = exponent([step.size for step in group], [step.processor_seconds for step in group])
        for step in group:
            is_last = step is group[-1]
            lines.append(
                f"| {part} | {name} | {step.size:,} {step.unit} | {step.processor_seconds:.3f} | "
                f"{step.elapsed_seconds:.3f} | {step.peak_bytes / 2**20:.0f} | "
                f"{'' if growth is None or not is_last else f'{growth:.2f}'} |"
            )
    return "\n".join(lines) + "\n"
