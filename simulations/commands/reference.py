"""``fedmammo reference``: figures of public data that ship with the package, made again."""

from pathlib import Path
from typing import Annotated

import typer

from simulations.commands.flags import ABOUT_OVERRIDES, Overrides

app = typer.Typer(help="Figures of public data that ship with the package, made again.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep each command one of its own, however many the group has."""


@app.command(epilog=ABOUT_OVERRIDES)
def constants(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file of numbers, .safetensors.")],
    overrides: Overrides = None,
    sites: Annotated[
        str, typer.Option(metavar="NAME,...", help="Only patients of these hospitals of data.roster.")
    ] = "",
) -> None:
    """Compute feature constants and heads from a download of CBIS-DDSM, for model.feature_constants=shipped.

    data.root=FOLDER is needed. Only the official training split counts.
    """
    import hashlib

    import torch

    from shared_model.system.files import write_atomically
    from shared_model.system.terminal import log_to_stderr
    from simulations.reference.constants import reference_constants

    log_to_stderr()
    torch.set_num_threads(1)
    content = reference_constants(overrides or (), sites=[name.strip() for name in sites.split(",") if name.strip()])
    write_atomically(out, content)
    typer.echo(f"{len(content)} bytes in {out}, SHA-256 {hashlib.sha256(content).hexdigest()}")


@app.command("grey-levels", epilog=ABOUT_OVERRIDES)
def grey_levels(
    out: Annotated[Path, typer.Option(metavar="FILE", help="JSON file to write.")], overrides: Overrides = None
) -> None:
    """Summarise the grey levels of the training masses of CBIS-DDSM; data.root=FOLDER is needed.

    Hospitals' images are compared with them: shared_model/reference/grey_levels.json is what this wrote.
    """
    from shared_model.config import compose
    from shared_model.system.documents import to_json
    from shared_model.system.files import write_atomically
    from shared_model.system.terminal import log_to_stderr
    from simulations.benchmarks.grey_references import make_references

    log_to_stderr()
    references = make_references(compose(["preset=cbis_mass", *(overrides or ())]))
    write_atomically(out, to_json(references).encode())
    typer.echo(f"{references.references[0].num_lesions} lesions summarised in {out}")
