"""Measurements in a process of their own, so that memory is that of nothing else."""

import multiprocessing
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from shared_model.errors import FederatedMammographyError

_Arguments = ParamSpec("_Arguments")
_Found = TypeVar("_Found")
_COMMAND = (
    "import sys; from simulations.commands.fedmammo import main; status = main(); "
    "from simulations.benchmarks.process_memory import PEAK, memory_bytes; "
    "print(); print(memory_bytes(PEAK)); sys.exit(status)"
)
"""``fedmammo``, which says at its end how much memory it has had."""


@dataclass(frozen=True, kw_only=True)
class CommandCost:
    """What a command took from its beginning to its very end."""

    status: int
    errors: str
    """What it wrote to its standard error."""
    processor_seconds: float
    """Of all threads, and of the processes that it began."""
    elapsed_seconds: float
    peak_bytes: int
    """Of resident memory, without that of processes that it began."""


def in_child(action: Callable[_Arguments, _Found], *arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Found:
    """Return what ``action`` returns in a new process; action, arguments and result are pickled.

    Raises:
        FederatedMammographyError: the process was killed.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(action, *arguments, **options).result()
    except BrokenProcessPool as error:
        if error.__cause__ is not None:
            # An exception that cannot travel between processes; its traceback is the cause.
            raise
        raise FederatedMammographyError(
            "Expected the process to end, it was killed, perhaps for want of memory; measure something smaller."
        ) from error


def run_fedmammo(arguments: Sequence[str]) -> CommandCost:
    """Run ``fedmammo`` with ``arguments`` to its end, while this process has no other children that end."""
    command = [sys.executable, "-P", "-c", _COMMAND, *arguments]
    elapsed, processor = time.perf_counter(), _children_seconds()
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603, our own
    elapsed, processor = time.perf_counter() - elapsed, _children_seconds() - processor
    # One that was killed says nothing at its end.
    lines = done.stdout.splitlines()
    return CommandCost(
        status=done.returncode,
        errors=done.stderr,
        processor_seconds=processor,
        elapsed_seconds=elapsed,
        peak_bytes=int(lines[-1]) if lines and lines[-1].isdecimal() else 0,
    )


def _children_seconds() -> float:
    """Return the processor time of all processes that were begun here and have ended, to their very end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
