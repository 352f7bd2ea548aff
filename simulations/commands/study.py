"""``fedmammo study``: several runs that answer one question, and a table of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulations.commands.flags import ABOUT_OVERRIDES, Numbers, Overrides, Seeds, Workers, at_least
from simulations.studies.purposes import CROSS_VALIDATION, PURPOSES, SEARCH

if TYPE_CHECKING:
    from simulations.studies.study import Study

app = typer.Typer(help="Several runs that answer one question, and a table of them.", no_args_is_help=True)

Out = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder to write to; runs/STUDY, if not given.")]
Folds = Annotated[int, typer.Option(parser=at_least(2), metavar="NUMBER", help="Parts of the training patients.")]
Candidates = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What is compared; configs/candidates.yaml, if not given.")
]
_FIRST = Numbers((0,))


@app.command(CROSS_VALIDATION, help=PURPOSES[CROSS_VALIDATION], epilog=ABOUT_OVERRIDES)
def cross_validation(
    overrides: Overrides = None, seeds: Seeds = _FIRST, workers: Workers = None, out: Out = None, folds: Folds = 5
) -> None:
    """Run one fold after the other as the test patients of the rest."""
    from simulations.studies.study import Study

    folder = _folder(out, CROSS_VALIDATION)
    study = Study(
        protocol=CROSS_VALIDATION, overrides=tuple(overrides or ()), seeds=seeds, folder=folder, num_folds=folds
    )
    _run(study, workers)


@app.command(SEARCH, help=PURPOSES[SEARCH], epilog=ABOUT_OVERRIDES)
def search(
    overrides: Overrides = None,
    seeds: Seeds = _FIRST,
    workers: Workers = None,
    out: Out = None,
    folds: Folds = 5,
    candidates: Candidates = None,
) -> None:
    """Cross-validate every candidate."""
    from simulations.studies.recipe_search import CANDIDATES_FILE, read_candidates
    from simulations.studies.study import Study

    study = Study(
        protocol=SEARCH,
        overrides=tuple(overrides or ()),
        seeds=seeds,
        folder=_folder(out, SEARCH),
        num_folds=folds,
        candidates=read_candidates(candidates or CANDIDATES_FILE),
    )
    _run(study, workers)


def _add(protocol: str) -> None:
    """Add the command of a study that has no flags of its own."""

    @app.command(protocol, help=PURPOSES[protocol], epilog=ABOUT_OVERRIDES)
    def run(overrides: Overrides = None, seeds: Seeds = _FIRST, workers: Workers = None, out: Out = None) -> None:
        from simulations.studies.study import Study

        folder = _folder(out, protocol)
        _run(Study(protocol=protocol, overrides=tuple(overrides or ()), seeds=seeds, folder=folder), workers)


for _protocol in PURPOSES:
    if _protocol not in {CROSS_VALIDATION, SEARCH}:
        _add(_protocol)


def _folder(out: Path | None, protocol: str) -> Path:
    return (out or Path("runs") / protocol).resolve()


def _run(study: "Study", workers: int | None) -> None:
    import torch
    from rich.console import Console

    from shared_model.system.terminal import log_to_stderr, on_interrupt
    from simulations.studies.runner import default_workers
    from simulations.studies.study import report, run_study

    log_to_stderr()
    torch.set_num_threads(1)
    console = Console()
    with on_interrupt("interrupted; the same command goes on where this one stopped"):
        rows = run_study(study, console, num_workers=workers or default_workers())
        report(study, rows, console)
