"""``fedmammo simulate preset=cbis_mass`` from its beginning to its very end: first, and with all features cached."""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from server.results.document import read_results
from shared_model.config.overrides import override
from shared_model.errors import FederatedMammographyError
from simulations.benchmarks.child_process import CommandCost, in_child, run_fedmammo
from simulations.benchmarks.cost.parts import CostPart
from simulations.benchmarks.cost.step import Progress, Step

_ROOT, _CACHE = "data.root", "data.cache_dir"
_SMALL_COHORTS = "privacy.cohort_rounding=2"
"""A small phantom's smallest site has fewer than ten training patients."""


def measure_runs(
    num_patients: Sequence[int], overrides: Sequence[str], *, num_repeats: int, progress: Progress
) -> Iterator[Step]:
    """Yield the costs of the first run over a phantom of each size, in which features are computed, and of later ones.

    Sizes are in declared training patients of all sites.

    Args:
        num_patients: of the phantoms, which are written before; not used where ``overrides`` name a ``data.root``.
        overrides: of the runs, in addition to ``preset=cbis_mass``.
        num_repeats: later runs, whose median counts, at least 1.
        progress: called with what is measured next.

    Raises:
        FederatedMammographyError: a run failed.
    """
    if any(text.partition("=")[0].lstrip("+") == _ROOT for text in overrides):
        yield from _measure(overrides, f"run of {_ROOT}", num_repeats=num_repeats, progress=progress)
        return
    for count in num_patients:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "phantom"
            progress(f"run of {count} synthetic patients: writing them")
            _required(in_child(run_fedmammo, ["phantom", "--num-patients", str(count), "--out", str(root)]))
            phantom = override(_ROOT, str(root)), _SMALL_COHORTS, *overrides
            what = f"run of {count} synthetic patients"
            yield from _measure(phantom, what, num_repeats=num_repeats, progress=progress)


def _measure(overrides: Sequence[str], what: str, *, num_repeats: int, progress: Progress) -> Iterator[Step]:
    with tempfile.TemporaryDirectory() as folder:
        # What comes later counts.
        common = ["simulate", "preset=cbis_mass", override(_CACHE, f"{folder}/cache"), *overrides]
        costs = []
        for number in range(1 + num_repeats):
            progress(f"{what}: {'warm' if number else 'first'}")
            run = Path(folder) / f"run-{number}"
            costs.append(_required(in_child(run_fedmammo, [*common, override("run.dir", str(run))])))
        num_declared = sum(site.num_patients_declared for site in read_results(run / "results.json").sites)
    yield _step("first", num_declared, costs[:1])
    yield _step("warm", num_declared, costs[1:])


def _step(name: str, num_patients: int, costs: Sequence[CommandCost]) -> Step:
    return Step(
        part=CostPart.RUN,
        step=name,
        size=num_patients,
        unit="patients",
        processor_seconds=statistics.median(cost.processor_seconds for cost in costs),
        elapsed_seconds=statistics.median(cost.elapsed_seconds for cost in costs),
        peak_bytes=max(cost.peak_bytes for cost in costs),
    )


def _required(cost: CommandCost) -> CommandCost:
    if cost.status:
        lines = cost.errors.splitlines()
        raise FederatedMammographyError(f"Expected a run to end well, it said: {lines[-1] if lines else 'nothing'}")
    return cost
