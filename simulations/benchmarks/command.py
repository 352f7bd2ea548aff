"""``python -m simulations.benchmarks.command``: figures that a reader can measure again on any machine."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from server.evaluation.predictions import PREDICTIONS_FILE, Predictions
from shared_model.system.files import write_atomically
from simulations.arguments import at_least, each_at_least
from simulations.benchmarks.many_sites import HEAD, Scale, measure_scale, write_scale
from simulations.benchmarks.private_steps import PrivacyBenchmark, measure_privacy
from simulations.studies.privacy_utility import RECIPE, UTILITY, comparison_cells, entries, table_cells, write_utility
from simulations.studies.runner import default_workers
from simulations.studies.study import Study, exit_code_of, run_study
from simulations.studies.tables import print_table


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
        "pass per patient. Ratio: private steps in the time of one of the baseline. Way with *: what training chooses.",
    )
    for name in ("network", "gradients", "baseline"):
        table.add_column(name)
    for name in ("baseline [ms]", "private [ms]", "ratio", "target"):
        table.add_column(name, justify="right")
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
        table.add_column(name, justify="right")
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
        table.add_column(name, justify="right")
    for row in benchmark.ledger:
        table.add_row(
            str(row.num_earlier_releases),
            f"{1e3 * row.round_seconds:.1f}",
            f"< {1e3 * row.target_seconds:g}" + ("" if row.round_seconds < row.target_seconds else ", missed"),
            f"{1e3 * row.open_seconds:.1f}",
        )
    return table


def print_scale(rows: Sequence[Scale], console: Console) -> None:
    """Print one row per federation."""
    table = Table(title="One round without training, in one process")
    for name in ("network", "sites", "round [s]", "per site [ms]", "target [ms]", "peak memory [MiB]"):
        table.add_column(name, justify="left" if name == "network" else "right")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    options = _parser().parse_args(arguments)
    run: dict[str, Callable[[argparse.Namespace], int]] = {
        "privacy": _run_privacy,
        "scale": _run_scale,
        "utility": _run_utility,
    }
    return run[options.kind](options)


def _run_scale(options: argparse.Namespace) -> int:
    console = Console()
    with console.status("") as status:
        rows = list(
            measure_scale(
                options.sites, num_repeats=options.repeats, with_large=not options.small, progress=status.update
            )
        )
    print_scale(rows, console)
    if options.plot is not None:
        write_scale(options.plot, rows)
    if options.out is not None:
        _write_json(options.out, [dataclasses.asdict(row) for row in rows])
    return 0


def _run_privacy(options: argparse.Namespace) -> int:
    benchmark = measure_privacy(
        num_patients=options.num_patients, image_size=options.image_size, num_repeats=options.repeats
    )
    print_privacy(benchmark, Console())
    if options.out is not None:
        _write_json(options.out, dataclasses.asdict(benchmark))
    return 0


def _run_utility(options: argparse.Namespace) -> int:
    console = Console()
    study = Study(
        protocol=UTILITY,
        overrides=(*RECIPE, *options.overrides),
        seeds=options.seeds,
        folder=(options.out or Path("runs") / UTILITY).resolve(),
    )

    def run() -> None:
        rows = run_study(study, console, num_workers=options.workers)
        folders = [study.run_folder(row.cell, row.seed) for row in rows]
        tested = [Predictions.from_csv(folder / PREDICTIONS_FILE) for folder in folders]
        found = entries(list(zip(rows, tested, strict=True)), num_resamples=options.resamples)
        write_utility(study.folder, found)
        print_table(console, "AUC on the official test lesions", *table_cells(found, with_intervals=False))
        print_table(console, "Image + descriptors", *comparison_cells(found, with_intervals=False))
        console.print(f"Tables with intervals, and the figure, in {study.folder}", highlight=False, soft_wrap=True)

    return exit_code_of(run)


def _write_json(path: Path, document: object) -> None:
    write_atomically(path, json.dumps(document, indent=2).encode() + b"\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulations.benchmarks.command", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    privacy = kinds.add_parser("privacy", help="what privacy costs in time")
    privacy.add_argument("--out", type=Path, help="write the figures to this JSON file too")
    privacy.add_argument("--repeats", type=at_least(1), default=5, help="repeats of every measurement; default 5")
    privacy.add_argument("--num-patients", type=at_least(10), default=250, help="size of the cohort; default 250")
    privacy.add_argument("--image-size", type=at_least(32), default=128, help="side in pixels; default 128")
    scale = kinds.add_parser("scale", help="what a round costs with many sites")
    scale.add_argument("--sites", type=each_at_least(1), default=(10, 100, 1000), help="default 10,100,1000")
    scale.add_argument("--repeats", type=at_least(1), default=5, help="rounds whose median counts; default 5")
    scale.add_argument("--small", action="store_true", help="leave the 45 MB network out")
    scale.add_argument("--out", type=Path, help="write the figures to this JSON file too")
    scale.add_argument("--plot", type=Path, help="draw them to this PNG file")
    utility = kinds.add_parser("utility", help="what privacy costs the diagnosis, on real CBIS-DDSM masses")
    utility.add_argument("overrides", nargs="*", help="Hydra overrides of every run; data.root=FOLDER is needed")
    utility.add_argument("--seeds", type=each_at_least(0), default=tuple(range(5)), help="default 0,1,2,3,4")
    utility.add_argument("--workers", type=at_least(1), default=default_workers(), help="runs at once; %(default)s")
    utility.add_argument("--resamples", type=at_least(100), default=1000, help="of the bootstrap; default 1000")
    utility.add_argument("--out", type=Path, help="folder; default runs/utility")
    return parser


if __name__ == "__main__":
    sys.exit(main())
