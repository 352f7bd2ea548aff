"""``fedmammo phantom``."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from simulations.commands.flags import Seed, at_least


def phantom(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="New or empty folder to write to.")],
    num_patients: Annotated[int, typer.Option(parser=at_least(12), metavar="NUMBER", help="How many patients.")] = 240,
    seed: Seed = 0,
) -> None:
    """Write a synthetic CBIS-DDSM: DICOM films, crops and masks with the official tables."""
    from rich.console import Console
    from rich.progress import Progress

    from shared_model.system.terminal import on_interrupt
    from simulations.phantom.write import write_phantom

    console = Console(stderr=True)
    with (
        on_interrupt("interrupted: nothing was written"),
        _interrupted_when_terminated(),
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("Drawing patients", total=num_patients)
        write_phantom(
            out, num_patients=num_patients, seed=seed, progress=lambda number: bar.update(task, completed=number)
        )
    typer.echo(f"{num_patients} patients in {out}")


@contextmanager
def _interrupted_when_terminated() -> Iterator[None]:
    """Take SIGTERM inside the block for Ctrl-C, so that no hidden folder stays."""

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
