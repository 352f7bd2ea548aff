"""The flags that commands of a hospital share."""

from pathlib import Path
from typing import Annotated

import typer

SitePath = Annotated[Path, typer.Option("--site", help="The hospital's settings, site.yaml.")]
HERE = Path("site.yaml")
NewFolder = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; new or empty.")]
