"""What a large table costs a hospital: reading it, and the checks before a start that need it.

Each is measured in a process of its own, so that memory is that of nothing else.
"""

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from client.deployment.checks import may_start
from client.deployment.initialisation import initialise
from client.deployment.own_patients import own_config, own_table
from client.deployment.preflight import check_own_table
from client.deployment.site_file import SiteFile
from client.privacy.policy import SitePolicy
from client.site import SiteSettings
from shared_model.errors import DataError
from simulations.benchmarks.child_process import in_child
from simulations.benchmarks.process_memory import NOW, PEAK, memory_bytes
from simulations.benchmarks.synthetic_hospital import ROWS_PER_IMAGE, write_hospital

READ, CHECKS = "read", "checks"
Progress = Callable[[str], None]
_Action = Callable[[SiteFile], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableCost:
    """Time and memory of one step on one table, libraries loaded before."""

    step: str
    num_rows: int
    num_images: int
    """Rows that name an image."""
    elapsed_seconds: float
    processor_seconds: float
    """Of all threads; other work on the machine hardly moves it."""
    peak_bytes: int
    """Of resident memory, libraries included."""
    table_bytes: int
    """Of these, what came in addition to the libraries, at least 1."""


def measure_tables(num_rows: Sequence[int], *, progress: Progress) -> Iterator[TableCost]:
    """Yield for each size the cost of reading the table, and that of the checks, which read it too.

    Args:
        num_rows: each at least 400.
        progress: called with what is done next.

    Raises:
        DataError: a check fails.
        FederatedMammographyError: a process was killed.
        OSError: a file cannot be written, or the system does not say how much memory a process had (``/proc``).
    """
    for count in num_rows:
        with tempfile.TemporaryDirectory() as folder:
            progress(f"{count} rows: writing them")
            site = write_hospital(Path(folder), count)
            progress(f"{count} rows: beginning the ledger")
            in_child(_measured, _begin, site)
            for step, action in ((READ, _read), (CHECKS, _check)):
                progress(f"{count} rows: {step}")
                found = in_child(_measured, action, site)
                yield TableCost(
                    step=step,
                    num_rows=count,
                    num_images=-(-count // ROWS_PER_IMAGE),
                    elapsed_seconds=found.elapsed_seconds,
                    processor_seconds=found.processor_seconds,
                    peak_bytes=found.peak_bytes,
                    table_bytes=max(1, found.peak_bytes - found.library_bytes),
                )


def exponent(rows: tuple[int, int], costs: tuple[float, float]) -> float:
    """Return ``k`` for which a cost grows as the ``k``-th power of the rows: 1 is linear growth.

    >>> exponent((1000, 10_000), (2.0, 20.0))
    1.0
    """
    return math.log(costs[1] / costs[0]) / math.log(rows[1] / rows[0])


class _Found(NamedTuple):
    elapsed_seconds: float
    processor_seconds: float
    library_bytes: int
    peak_bytes: int


def _measured(action: _Action, path: Path) -> _Found:
    site = SiteFile.load(path)
    # The libraries that read a configuration are loaded when the first one is read.
    own_config(site, SitePolicy.load(site.policy))
    before = memory_bytes(NOW)
    elapsed, processor = time.perf_counter(), time.process_time()
    action(site)
    elapsed, processor = time.perf_counter() - elapsed, time.process_time() - processor
    # Not ru_maxrss, which begins at what the parent had.
    return _Found(elapsed, processor, before, memory_bytes(PEAK))


def _begin(site: SiteFile) -> None:
    initialise(site)


def _read(site: SiteFile) -> None:
    own_table(SiteSettings.from_node_config(site.node_config, own_config(site, SitePolicy.load(site.policy))))


def _check(site: SiteFile) -> None:
    checks = check_own_table(site)
    if not may_start(checks):
        raise DataError("; ".join(f"{check.name}: {check.detail}" for check in checks))
