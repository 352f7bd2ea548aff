"""Flags and arguments that several commands of the coordinator share."""

from pathlib import Path
from typing import Annotated

import typer

KitPath = Annotated[Path, typer.Option("--kit", help="The server's kit: the folder server/ of the kits.")]
HERE = Path()
# click 8.5 drops the help of arguments, so a command's own text says what they are.
RunFolder = Annotated[Path, typer.Argument(metavar="RUN")]
NO_LONGER_FOLLOWED = "no longer followed; the run goes on: fedmammo server status"
"""What Ctrl-C means to a run."""
