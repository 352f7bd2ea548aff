"""What a hospital does before it takes part: beginning its ledger, and every check of ``fedmammo site preflight``."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from client.deployment.checks import may_start
from client.deployment.initialisation import initialise
from client.deployment.own_patients import own_config
from client.deployment.preflight import preflight
from client.deployment.site_file import SiteFile
from client.privacy.policy import SitePolicy
from shared_model.errors import DataError
from simulations.benchmarks.child_process import in_child
from simulations.benchmarks.cost.parts import CostPart
from simulations.benchmarks.cost.step import Progress, Size, Step, measured
from simulations.benchmarks.synthetic_hospital import write_hospital


def measure_preflight(num_rows: Sequence[int], *, progress: Progress) -> Iterator[Step]:
    """Yield what both cost for each number of rows of the hospital's table, at least 400; the coordinator is away.

    Raises:
        DataError: a check fails.
        FederatedMammographyError: a process was killed.
        OSError: a file cannot be written, or the system does not say how much memory a process had (``/proc``).
    """
    for count in num_rows:
        size = Size(part=CostPart.PREFLIGHT, count=count, unit="rows")
        with tempfile.TemporaryDirectory() as folder:
            progress(f"preflight of {count} rows: writing them")
            site = write_hospital(Path(folder), count)
            for step, action in (("init", _begin), ("preflight", _check)):
                progress(f"preflight of {count} rows: {step}")
                yield in_child(_measured, size, step, action, site)


def _measured(size: Size, step: str, action: Callable[[SiteFile], None], path: Path) -> Step:
    site = SiteFile.load(path)
    # The libraries that read a configuration are loaded when the first one is read.
    own_config(site, SitePolicy.load(site.policy))
    return measured(size, step, partial(action, site))


def _begin(site: SiteFile) -> None:
    initialise(site)


def _check(site: SiteFile) -> None:
    checks = preflight(site)
    if not may_start(checks):
        raise DataError("; ".join(f"{check.name}: {check.detail}" for check in checks))
