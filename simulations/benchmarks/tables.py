"""What a person reads of a benchmark: tables on the screen, and the figures as JSON."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from client.data.grey_sample import SAMPLE_SIZE
from shared_model.system.files import write_atomically
from simulations.benchmarks.feature_times import FeatureTimes
from simulations.benchmarks.grey_references import Detection
from simulations.benchmarks.many_sites import HEAD, RoundCost
from simulations.benchmarks.private_steps import PrivacyBenchmark
from simulations.benchmarks.reading_times import ReadingTimes
from simulations.benchmarks.sum_times import SumCost
from simulations.benchmarks.table_costs import TableCost, exponent


def print_privacy(benchmark: PrivacyBenchmark, console: Console) -> None:
    """Print one table of the steps and one of the plans."""
    console.print(_throughput_table(benchmark))
    console.print(_calibration_table(benchmark))
    console.print(_ledger_table(benchmark))
    console.print(
        f"Medians of {benchmark.num_repeats} interleaved repeats, {benchmark.num_threads} threads, torch "
        f"{benchmark.torch_version}.",
        highlight=False,
        soft_wrap=True,
    )


def _throughput_table(benchmark: PrivacyBenchmark) -> Table:
    table = Table(
        title=f"Whole-cohort steps: {benchmark.num_patients} patients, {benchmark.num_lesions} lesions",
        caption="Heads read cached features. Baseline, without privacy: batched, as training does it, or one backward "
        "pass per patient. Ratio: private steps in the time of one of the baseline. *: the gradients training chooses.",
    )
    for name in ("network", "gradients", "baseline"):
        table.add_column(name)
    for name in ("baseline [ms]", "private [ms]", "ratio", "target"):
        table.add_column(escape(name), justify="right")
    for row in benchmark.throughput:
        table.add_row(
            row.network,
            row.gradient_method + ("*" if row.is_chosen else ""),
            row.baseline,
            f"{1e3 * row.baseline_seconds:.1f}",
            f"{1e3 * row.private_seconds:.1f}",
            f"{row.ratio:.2f}",
            "-" if row.target is None else f">= {row.target:g}" + ("" if row.ratio >= row.target else ", missed"),
        )
    return table


def _calibration_table(benchmark: PrivacyBenchmark) -> Table:
    table = Table(title="Making a privacy plan, nothing cached")
    for name in ("sampling rate", "steps", "noise multiplier", "calibrate [s]", "target [s]", "cross-check [s]"):
        table.add_column(escape(name), justify="right")
    for row in benchmark.calibration:
        table.add_row(
            f"{row.sampling_rate:g}",
            str(row.num_steps),
            f"{row.noise_multiplier:g}",
            f"{row.calibrate_seconds:.2f}",
            f"< {row.target_seconds:g}" + ("" if row.calibrate_seconds < row.target_seconds else ", missed"),
            f"{row.cross_check_seconds:.2f}",
        )
    return table


def _ledger_table(benchmark: PrivacyBenchmark) -> Table:
    table = Table(title="A round's ledger: reserve and commit")
    for name in ("earlier releases", "round [ms]", "target [ms]", "open and verify [ms]"):
        table.add_column(escape(name), justify="right")
    for row in benchmark.ledger:
        table.add_row(
            str(row.num_earlier_releases),
            f"{1e3 * row.round_seconds:.1f}",
            f"< {1e3 * row.target_seconds:g}" + ("" if row.round_seconds < row.target_seconds else ", missed"),
            f"{1e3 * row.open_seconds:.1f}",
        )
    return table


def print_scale(rows: Sequence[RoundCost], console: Console) -> None:
    """Print one row per federation."""
    table = Table(title="One round without training, in one process")
    for name in ("network", "sites", "round [s]", "per site [ms]", "target [ms]", "peak memory [MiB]"):
        table.add_column(escape(name), justify="left" if name == "network" else "right")
    for row in rows:
        table.add_row(
            row.network,
            str(row.num_sites),
            f"{row.round_seconds:.3f}",
            f"{1e3 * row.seconds_per_site:.2f}",
            "-" if row.network != HEAD else "< 5" if row.meets_target else "< 5, missed",
            f"{row.peak_bytes / 2**20:.1f}",
        )
    console.print(table)


def print_sums(rows: Sequence[SumCost], console: Console) -> None:
    """Print one row per federation and size of what is summed."""
    table = Table(title="What a secure sum adds to a round", caption="CPU time; two sites drop out where two may.")
    for name in ("sites", "values", "a site [ms]", "target [ms]", "server [ms]"):
        table.add_column(escape(name), justify="right")
    words = {None: "-", True: "< 50", False: "< 50, missed"}
    for row in rows:
        times = f"{1e3 * row.site_seconds:.1f}", words[row.meets_target], f"{1e3 * row.server_seconds:.1f}"
        table.add_row(str(row.num_sites), str(row.num_values), *times)
    console.print(table)


def print_detection(rows: Sequence[Detection], console: Console) -> None:
    """Print one table for each normalisation: a row for each alteration, in each cell a rate for each site."""
    sites = " / ".join(dict.fromkeys(row.site for row in rows))
    for method in dict.fromkeys(row.normalisation for row in rows):
        table = Table(title=f"normalisation={method}", caption=f"Left out: {sites}. As it is: false alarms.")
        table.add_column("warned of [%]")
        table.add_column("one image", justify="right")
        table.add_column(f"sample of {SAMPLE_SIZE}", justify="right")
        own = [row for row in rows if row.normalisation is method]
        for name in dict.fromkeys(row.alteration for row in own):
            same = [row for row in own if row.alteration == name]
            rates = [[row.single_rate for row in same], [row.sample_rate for row in same]]
            table.add_row(name, *(" / ".join(f"{100 * rate:.0f}" for rate in each) for each in rates))
        console.print(table)


def print_table_costs(rows: Sequence[TableCost], console: Console, *, load: float) -> None:
    """Print one row per step and table; growth is from the line above of the same step.

    Args:
        rows: in the order in which they were measured.
        console: to print on.
        load: of the machine when the measurement began: processes that ran or waited for a core.
    """
    table = Table(
        title="A hospital's own table",
        caption=f"{os.cpu_count()} cores, on which {load:.1f} processes ran or waited before. Growth: exponent of the "
        "rows, from the line above; 1 is linear. Memory includes the libraries, its growth does not.",
    )
    table.add_column("step")
    for name in ("rows", "images", "elapsed [s]", "processor [s]", "growth", "memory [GiB]", "growth"):
        table.add_column(escape(name), justify="right")
    for step in dict.fromkeys(row.step for row in rows):
        before: TableCost | None = None
        for row in (row for row in rows if row.step == step):
            growth = ("-", "-") if before is None else _growth(before, row)
            table.add_row(
                step,
                f"{row.num_rows:,}",
                f"{row.num_images:,}",
                f"{row.elapsed_seconds:.1f}",
                f"{row.processor_seconds:.1f}",
                growth[0],
                f"{row.peak_bytes / 2**30:.2f}",
                growth[1],
            )
            before = row
    console.print(table)


def print_readings(rows: Sequence[ReadingTimes], console: Console, *, load: float) -> None:
    """Print one row for each way to read.

    Args:
        rows: as they were measured.
        console: to print on.
        load: of the machine when the measurement began: processes that ran or waited for a core.
    """
    table = Table(
        title="One lesion read",
        caption=f"{os.cpu_count()} cores, on which {load:.1f} processes ran or waited before; one thread. Medians "
        "and 95th percentiles of processor time, which other work on the machine slows by less than elapsed time.",
    )
    table.add_column("what")
    for name in ("readings", "median [s]", "95 % [s]", "target [s]", "met", "elapsed [s]", "memory [GiB]"):
        table.add_column(escape(name), justify="right")
    for row in rows:
        is_met = row.target_seconds is not None and row.median_seconds <= row.target_seconds
        table.add_row(
            row.what,
            str(row.num_readings),
            f"{row.median_seconds:.2f}",
            f"{row.late_seconds:.2f}",
            "-" if row.target_seconds is None else f"{row.target_seconds:.1f}",
            "-" if row.target_seconds is None else "yes" if is_met else "no",
            f"{row.elapsed_seconds:.2f}",
            f"{row.peak_bytes / 2**30:.2f}",
        )
    console.print(table)


def print_features(rows: Sequence[FeatureTimes], console: Console, *, load: float) -> None:
    """Print one row for each backbone and engine; ``load`` as for ``print_readings``."""
    first = rows[0]
    table = Table(
        title=f"Features of an image of {first.size} x {first.size} pixels",
        caption=f"{first.num_images} images, in turns; median processor time of all threads. {os.cpu_count()} cores, "
        f"on which {load:.1f} processes ran or waited before.",
    )
    table.add_column("backbone")
    table.add_column("engine")
    for name in ("processor time [ms]", "speed", "largest difference"):
        table.add_column(escape(name), justify="right")
    for row in rows:
        numbers = (f"{1000 * row.processor_seconds:.1f}", f"{row.speed:.2f}", f"{row.largest_difference:.1g}")
        table.add_row(row.backbone, row.engine, *numbers)
    console.print(table)


def _growth(before: TableCost, row: TableCost) -> tuple[str, str]:
    """Return the exponents of processor time, and of memory beyond the libraries."""
    sizes = (before.num_rows, row.num_rows)
    time = exponent(sizes, (before.processor_seconds, row.processor_seconds))
    return f"{time:.2f}", f"{exponent(sizes, (before.table_bytes, row.table_bytes)):.2f}"


def write_figures(path: Path, figures: object) -> None:
    """Write figures, made of lists, dictionaries and numbers, as JSON.

    Raises:
        OSError: ``path`` cannot be written.
    """
    write_atomically(path, json.dumps(figures, indent=2).encode() + b"\n")
