"""``fedmammo manifest``."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="A table of lesions, tried before anybody trains on it.", no_args_is_help=True)


def _picture_file(text: str) -> Path:
    if Path(text).suffix.lower() != ".png":
        raise typer.BadParameter(f"expected {text} to end in .png")
    return Path(text)


@app.callback()
def _group() -> None:
    """Keep ``check`` a command of its own although the group has no other."""


@app.command()
def check(
    table: Annotated[Path, typer.Argument(metavar="FILE")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    out: Annotated[
        Path,
        typer.Option(parser=_picture_file, metavar="FILE", help="Picture to write, of ten lesions; .png."),
    ] = Path("lesions.png"),
) -> None:
    """Say what would be read of a table and what not, and draw ten lesions as the network sees them.

    FILE is a manifest, or a folder with the case descriptions of CBIS-DDSM. KEY=VALUE changes the configuration, such
    as data.image.mode=roi, data.image.size=224, data.roster=sites.csv or model.modality=clinical. Nothing is trained,
    and nothing but the picture is written. The exit status is 0 if a run would accept the table.
    """
    from rich.console import Console

    from client.data.contact_sheet import contact_sheet
    from client.data.table_check import TableCheck
    from shared_model.config import compose
    from shared_model.config.choices import DataSource
    from shared_model.config.overrides import override
    from shared_model.system.files import write_atomically
    from shared_model.system.terminal import log_to_stderr

    log_to_stderr()
    source = DataSource.CBIS_DDSM if table.is_dir() else DataSource.MANIFEST
    own = [f"data.source={source}", override("data.root", str(table)), "data.roster=null"]
    config = compose([*own, "federation.sites=[HERE]", "federation.min_sites=1", *(overrides or ())])
    console, found = Console(), TableCheck.of(config)
    for line in found.lines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if found.pictures:
        write_atomically(out, contact_sheet(found.pictures))
        console.print(
            f"pictures     {len(found.pictures)} lesions in {out}", highlight=False, markup=False, soft_wrap=True
        )
    found.require_usable()
