"""``fedmammo server provision``."""

from pathlib import Path
from typing import Annotated

import typer


def provision(
    sites: Annotated[str, typer.Option(metavar="NAME,...", help="Names of the hospitals, separated by commas.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="New or empty folder to write to.")],
    host: Annotated[str, typer.Option(help="Name or address of this server.")] = "localhost",
    port: Annotated[int, typer.Option(help="Port at which the hospitals reach it.")] = 9092,
    valid_days: Annotated[int, typer.Option(help="Validity of the server's certificate.")] = 365,
) -> None:
    """Make certificates, keys and a start-up kit for every hospital."""
    from rich.console import Console

    from server.deployment import provision as kits
    from server.deployment.bundle import bundle_digest

    digest, console = bundle_digest(), Console(soft_wrap=True, highlight=False)
    kits.provision(
        out=out, sites=sites.split(","), host=host, port=port, valid_days=valid_days, approved_bundles=[digest]
    )
    console.print(f"Kits in {out}: keep ca/ offline, run the server from server/, send each site its own.")
    console.print(f"Sites will answer application bundle {digest}.")
