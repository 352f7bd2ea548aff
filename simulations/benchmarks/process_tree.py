"""What a running process and all that it has begun have used, as Linux counts it (``proc(5)``)."""

import os
from collections.abc import Iterator
from pathlib import Path

from simulations.benchmarks.process_memory import PEAK, memory_bytes

_PARENT, _TIMES = 1, slice(11, 15)
"""Places after the name in ``/proc/PID/stat``; times of the process and of ended children, in user and system mode."""


def processor_seconds(process: int) -> float:
    """Return the processor time of a process and its descendants, of the ended ones too, in hundredths of a second.

    Zero for a process that has ended.
    """
    ticks = sum(sum(map(int, _stat(member)[_TIMES])) for member in _family(process))
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_bytes(process: int) -> int:
    """Return the sum of the peaks of resident memory of a process and its living descendants.

    What processes share counts for each, so that this is rather too much.
    """
    return sum(_peak(member) for member in _family(process))


def _family(process: int) -> Iterator[int]:
    """Yield the process and all that descend from it; a process of them that ends meanwhile is left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name)))[_PARENT:]:
            children.setdefault(int(fields[_PARENT]), []).append(int(entry.name))
    members = [process]
    while members:
        member = members.pop()
        yield member
        members += children.get(member, ())


def _stat(process: int) -> list[str]:
    """Return the fields after the name, which may hold any character; none if the process has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _peak(process: int) -> int:
    try:
        return memory_bytes(PEAK, process)
    except OSError:
        # It has ended and waits for its parent, or is gone.
        return 0
