"""``fedmammo server dossier``."""

from pathlib import Path
from typing import Annotated

import typer


def dossier(
    release: Annotated[Path, typer.Argument(metavar="RELEASE")],
    *,
    run: Annotated[Path, typer.Option(metavar="FOLDER", help="The finished run that the release was made from.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to make; new or empty.")],
) -> None:
    """Write the regulatory dossier of a release: what is claimed, what is not, and where each figure stands.

    RELEASE is the folder of a release. A new folder gets intended use, risk table, TRIPOD+AI and CLAIM checklists and a
    change plan, as a page and as JSON, with copies of the files that they cite. No claim of conformity is made.
    """
    from server.dossier.folder import PAGE_FILE, write_dossier

    write_dossier(release, run, out)
    typer.echo(str(out / PAGE_FILE))
