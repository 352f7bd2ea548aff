"""All parts of ``fedmammo benchmark cost``, one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simulations.benchmarks.cost.deployed import measure_deployed
from simulations.benchmarks.cost.ingest import measure_ingest
from simulations.benchmarks.cost.ledger import measure_ledgers
from simulations.benchmarks.cost.parts import CostPart
from simulations.benchmarks.cost.preflight import measure_preflight
from simulations.benchmarks.cost.rounds import measure_rounds
from simulations.benchmarks.cost.step import Progress, Step
from simulations.benchmarks.cost.training import measure_training
from simulations.benchmarks.cost.whole_run import measure_runs

_MORE_ROUNDS = 3
"""Of a deployment: the first, the last, and one more in whose place the median may stand."""
_WAITING_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured for, each in the order of measuring."""

    num_sites: Sequence[int]
    """Of rounds in one process."""
    num_patients: Sequence[int]
    """Of a ledger."""
    num_cohorts: int
    """That the ledger has had."""
    num_rows: Sequence[int]
    """Of a table that is read, and of one that is checked."""
    num_trained: Sequence[int]
    """Patients of a round of training."""
    num_synthetic: Sequence[int]
    """Patients of the phantom of a whole run."""
    num_deployed: Sequence[int]
    """Sites that are processes."""


def measure(
    parts: Sequence[CostPart], sizes: Sizes, overrides: Sequence[str], *, num_repeats: int, progress: Progress
) -> Iterator[Step]:
    """Yield the steps of all ``parts``.

    Args:
        parts: in the order of measuring.
        sizes: of all.
        overrides: of the whole run.
        num_repeats: of what is done more than once, at least 1.
        progress: called with what is measured next.
    """
    for part in parts:
        yield from _measure(part, sizes, overrides, num_repeats, progress)


def _measure(
    part: CostPart, sizes: Sizes, overrides: Sequence[str], num_repeats: int, progress: Progress
) -> Iterator[Step]:
    match part:
        case CostPart.ROUNDS:
            yield from measure_rounds(sizes.num_sites, num_repeats=num_repeats, progress=progress)
        case CostPart.LEDGER:
            yield from measure_ledgers(
                sizes.num_patients, sizes.num_cohorts, num_repeats=num_repeats, progress=progress
            )
        case CostPart.INGEST:
            yield from measure_ingest(sizes.num_rows, progress=progress)
        case CostPart.PREFLIGHT:
            yield from measure_preflight(sizes.num_rows, progress=progress)
        case CostPart.TRAINING:
            yield from measure_training(sizes.num_trained, num_repeats=num_repeats, progress=progress)
        case CostPart.RUN:
            yield from measure_runs(sizes.num_synthetic, overrides, num_repeats=num_repeats, progress=progress)
        case CostPart.DEPLOYED:
            num_rounds = _MORE_ROUNDS + num_repeats
            yield from measure_deployed(
                sizes.num_deployed, num_rounds=num_rounds, waiting_seconds=_WAITING_SECONDS, progress=progress
            )
