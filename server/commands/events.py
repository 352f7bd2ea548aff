"""``fedmammo server events``."""

from pathlib import Path
from typing import Annotated

import typer


def events(runs: Annotated[list[Path], typer.Argument(metavar="RUN...")]) -> None:
    """Write finished runs as TensorBoard event files.

    Every RUN is the folder of a run.
    """
    from server.report.tensorboard import write_events

    for run in runs:
        typer.echo(write_events(run))
