"""A hospital's own table: reading it, and the checks before a start; see ``simulations.benchmarks.table_costs``."""

from collections.abc import Iterator, Sequence

from simulations.benchmarks.cost.parts import CostPart
from simulations.benchmarks.cost.step import Progress, Step
from simulations.benchmarks.table_costs import measure_tables


def measure_ingest(num_rows: Sequence[int], *, progress: Progress) -> Iterator[Step]:
    """Yield the steps of ``measure_tables`` for each number of rows, at least 400."""
    for cost in measure_tables(num_rows, progress=progress):
        yield Step(
            part=CostPart.INGEST,
            step=cost.step,
            size=cost.num_rows,
            unit="rows",
            processor_seconds=cost.processor_seconds,
            elapsed_seconds=cost.elapsed_seconds,
            peak_bytes=cost.peak_bytes,
        )
