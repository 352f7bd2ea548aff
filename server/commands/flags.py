"""Flags and arguments that several commands of the coordinator share."""

from pathlib import Path
from typing import Annotated

import typer

KitPath = Annotated[Path, typer.Option("--kit", help="The server's kit: the folder server/ of the kits.")]
HERE = Path()
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.")]
NO_LONGER_FOLLOWED = "no longer followed; the run goes on: fedmammo server status"
"""What Ctrl-C means to a run."""
