"""``fedmammo benchmark``: figures that a reader can measure again on any machine."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from simulations.benchmarks.cost.parts import CostPart
from simulations.commands.flags import (
    ABOUT_OVERRIDES,
    Numbers,
    Overrides,
    Repeats,
    Seeds,
    Workers,
    at_least,
    each_at_least,
)
from simulations.studies.purposes import Part

app = typer.Typer(help="Figures that a reader can measure again on any machine.", no_args_is_help=True)

Json = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures to this JSON file too.")]
_SIZES, _FIVE = Numbers((10, 100, 1000)), Numbers(range(5))
_TABLE_SIZES = Numbers((10_000, 100_000, 1_000_000))
_PATIENTS = Numbers((1000, 10_000, 100_000))
_COST_ROWS, _TRAINED, _PHANTOMS = Numbers((1000, 10_000, 100_000)), Numbers((100, 1000, 10_000)), Numbers((60, 240))
_DEPLOYED = Numbers((3, 10))
_MEASURED = "interrupted; what was measured is shown and in the files, and --part measures the rest"
_STOPPED = "interrupted; the same command goes on where this one stopped"


def _cost_file(text: str) -> Path:
    if not text.endswith((".json", ".csv", ".md", ".png")):
        raise typer.BadParameter(f"expected {text} to end in .json, .csv, .md or .png")
    return Path(text)


def _json_or_png(text: str) -> Path:
    if not text.endswith((".json", ".png")):
        raise typer.BadParameter(f"expected {text} to end in .json or .png")
    return Path(text)


@app.command()
def privacy(
    out: Json = None,
    repeats: Repeats = 5,
    num_patients: Annotated[int, typer.Option(parser=at_least(10), metavar="NUMBER", help="Size of the cohort.")] = 250,
    image_size: Annotated[int, typer.Option(parser=at_least(32), metavar="NUMBER", help="Side in pixels.")] = 128,
) -> None:
    """Measure what privacy costs in time."""
    from rich.console import Console

    from simulations.benchmarks.private_steps import measure_privacy
    from simulations.benchmarks.tables import print_privacy, write_figures

    benchmark = measure_privacy(num_patients=num_patients, image_size=image_size, num_repeats=repeats)
    print_privacy(benchmark, Console())
    if out is not None:
        write_figures(out, dataclasses.asdict(benchmark))


@app.command()
def scale(
    num_sites: Annotated[
        Numbers, typer.Option(parser=each_at_least(1), metavar="NUMBER,...", help="Sizes of the federations.")
    ] = _SIZES,
    repeats: Repeats = 5,
    small: Annotated[bool, typer.Option("--small", help="Leave the network of 45 MB out.")] = False,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            parser=_json_or_png, metavar="FILE", help=".json of the figures, .png drawn of them; may be repeated."
        ),
    ] = None,
) -> None:
    """Measure what a round costs with many sites, without training; and what secure sums add to it."""
    from rich.console import Console

    from simulations.benchmarks.many_sites import measure_scale, write_scale
    from simulations.benchmarks.sum_times import measure_sums, sum_sizes
    from simulations.benchmarks.tables import print_scale, print_sums, write_figures

    console = Console()
    with console.status("") as status:
        rows = list(measure_scale(num_sites, num_repeats=repeats, with_large=not small, progress=status.update))
        sums = measure_sums(sum_sizes(with_large=not small), num_repeats=repeats, progress=status.update)
    print_scale(rows, console)
    print_sums(sums, console)
    for path in out or ():
        if path.suffix == ".png":
            write_scale(path, rows)
        else:
            figures = {
                "rounds": [dataclasses.asdict(row) for row in rows],
                "secure_sums": [dataclasses.asdict(row) for row in sums],
            }
            write_figures(path, figures)


@app.command()
def tables(
    num_rows: Annotated[
        Numbers, typer.Option(parser=each_at_least(400), metavar="NUMBER,...", help="Sizes of the tables.")
    ] = _TABLE_SIZES,
    out: Json = None,
) -> None:
    """Measure what a large table costs a hospital: reading it, and the checks of preflight that need it.

    The default takes some minutes, 3 GiB of memory and 1 GB in the system's folder for temporary files.
    """
    import os

    from rich.console import Console

    from simulations.benchmarks.table_costs import measure_tables
    from simulations.benchmarks.tables import print_table_costs, write_figures

    console, load = Console(), os.getloadavg()[0]
    with console.status("") as status:
        rows = list(measure_tables(sorted(num_rows), progress=status.update))
    print_table_costs(rows, console, load=load)
    if out is not None:
        write_figures(out, [dataclasses.asdict(row) for row in rows])


@app.command(epilog=ABOUT_OVERRIDES)
def cost(
    overrides: Overrides = None,
    *,
    part: Annotated[
        list[CostPart] | None,
        typer.Option(metavar="PART", help=f"One of {', '.join(CostPart)}; may be repeated. All, if not given."),
    ] = None,
    num_sites: Annotated[
        Numbers, typer.Option(parser=each_at_least(1), metavar="NUMBER,...", help="Of rounds in one process.")
    ] = _SIZES,
    num_patients: Annotated[
        Numbers, typer.Option(parser=each_at_least(2), metavar="NUMBER,...", help="Of a site's ledger.")
    ] = _PATIENTS,
    num_cohorts: Annotated[
        int, typer.Option(parser=at_least(1), metavar="NUMBER", help="That a ledger has had.")
    ] = 100,
    num_rows: Annotated[
        Numbers,
        typer.Option(parser=each_at_least(400), metavar="NUMBER,...", help="Of a site's table: ingest and preflight."),
    ] = _COST_ROWS,
    num_trained: Annotated[
        Numbers, typer.Option(parser=each_at_least(10), metavar="NUMBER,...", help="Patients of a step of training.")
    ] = _TRAINED,
    num_synthetic: Annotated[
        Numbers, typer.Option(parser=each_at_least(40), metavar="NUMBER,...", help="Patients of a whole run.")
    ] = _PHANTOMS,
    num_deployed: Annotated[
        Numbers, typer.Option(parser=each_at_least(1), metavar="NUMBER,...", help="Sites that are processes.")
    ] = _DEPLOYED,
    repeats: Repeats = 3,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            parser=_cost_file, metavar="FILE", help=".json or .csv of the figures, .md table, .png; may be repeated."
        ),
    ] = None,
) -> None:
    """Measure what a federation costs as it grows: rounds, ledger, table, training, a run, sites as processes.

    The run is preset=cbis_mass over synthetic patients, or with data.root=FOLDER over those. Every size is measured in
    a process of its own. The default takes some ten minutes, 1 GiB of memory for each deployed site and 1 GB in the
    system's folder for temporary files. Files are written after every size, and the table also where Ctrl-C ends it:
    --part measures the rest.
    """
    from rich.console import Console

    from shared_model.system.terminal import on_interrupt
    from simulations.benchmarks.cost.document import to_markdown, write_steps
    from simulations.benchmarks.cost.measurement import Sizes, measure
    from simulations.benchmarks.cost.step import Step

    sizes = Sizes(
        num_sites=sorted(num_sites),
        num_patients=sorted(num_patients),
        num_cohorts=num_cohorts,
        num_rows=sorted(num_rows),
        num_trained=sorted(num_trained),
        num_synthetic=sorted(num_synthetic),
        num_deployed=sorted(num_deployed),
    )
    parts, steps = [each for each in CostPart if each in (part or CostPart)], list[Step]()
    # The table is for the output; what is being done is not.
    with Console(stderr=True).status("") as status, on_interrupt(_MEASURED):
        try:
            for step in measure(parts, sizes, overrides or (), num_repeats=repeats, progress=status.update):
                steps.append(step)
                for path in out or ():
                    write_steps(path, steps)
        finally:
            if steps:
                typer.echo(to_markdown(steps), nl=False)


@app.command()
def reading(repeats: Repeats = 20, out: Json = None) -> None:
    """Measure how long a hospital waits for the answer about one lesion, and what memory that takes.

    Pictures are synthetic and the network untrained, which changes no time.
    """
    import os

    from rich.console import Console

    from simulations.benchmarks.reading_times import measure_readings
    from simulations.benchmarks.tables import print_readings, write_figures

    console, load = Console(), os.getloadavg()[0]
    with console.status("") as status:
        rows = list(measure_readings(repeats, progress=status.update))
    print_readings(rows, console, load=load)
    if out is not None:
        write_figures(out, [dataclasses.asdict(row) for row in rows])


@app.command()
def features(
    repeats: Repeats = 5,
    num_images: Annotated[int, typer.Option(parser=at_least(2), metavar="NUMBER", help="Invented ones.")] = 24,
    image_size: Annotated[int, typer.Option(parser=at_least(32), metavar="NUMBER", help="Side in pixels.")] = 128,
    out: Json = None,
) -> None:
    """Measure what the features of an image cost with every value of model.feature_engine; needs the extra openvino."""
    import os

    from rich.console import Console

    from simulations.benchmarks.feature_times import measure_features
    from simulations.benchmarks.tables import print_features, write_figures

    load = os.getloadavg()[0]
    rows = list(measure_features(image_size, num_images, repeats))
    print_features(rows, Console(), load=load)
    if out is not None:
        write_figures(out, [dataclasses.asdict(row) for row in rows])


@app.command("grey-levels", epilog=ABOUT_OVERRIDES)
def grey_levels(overrides: Overrides = None, out: Json = None) -> None:
    """Measure how often altered grey levels are noticed, on CBIS-DDSM masses; data.root=FOLDER is needed.

    Every hospital is left out in turn: what the others' training masses are like is the reference.
    """
    from rich.console import Console

    from shared_model.config import compose
    from shared_model.system.terminal import log_to_stderr
    from simulations.benchmarks.grey_references import measure_detection
    from simulations.benchmarks.tables import print_detection, write_figures

    log_to_stderr()
    rows = list(measure_detection(compose(["preset=cbis_mass", *(overrides or ())])))
    print_detection(rows, Console())
    if out is not None:
        write_figures(out, [dataclasses.asdict(row) for row in rows])


@app.command(epilog=ABOUT_OVERRIDES)
def utility(
    overrides: Overrides = None,
    seeds: Seeds = _FIVE,
    workers: Workers = None,
    resamples: Annotated[int, typer.Option(parser=at_least(100), metavar="NUMBER", help="Of the bootstrap.")] = 1000,
    parts: Annotated[
        list[Part] | None,
        typer.Option("--part", metavar="PART", help=f"One of {', '.join(Part)}; may be repeated. All, if not given."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write to.")] = Path("runs/utility"),
) -> None:
    """Measure what privacy costs the diagnosis, on CBIS-DDSM masses; data.root=FOLDER is needed."""
    import torch
    from rich.console import Console

    from shared_model.system.terminal import log_to_stderr, on_interrupt
    from simulations.benchmarks.utility import report_utility
    from simulations.studies.privacy_utility import RECIPE, UTILITY
    from simulations.studies.runner import default_workers
    from simulations.studies.study import Study

    log_to_stderr()
    torch.set_num_threads(1)
    study = Study(
        protocol=UTILITY,
        overrides=(*RECIPE, *(overrides or ())),
        seeds=seeds,
        folder=out.resolve(),
        parts=tuple(part for part in Part if part in (parts or Part)),
    )
    with on_interrupt(_STOPPED):
        report_utility(study, Console(), num_workers=workers or default_workers(), num_resamples=resamples)
