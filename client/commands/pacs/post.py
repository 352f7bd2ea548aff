"""``fedmammo site pacs post``."""

from pathlib import Path
from typing import Annotated

import typer

from client.commands.flags import HERE, SitePath


def post(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A transaction of FHIR resources, .json.")],
    site: SitePath = HERE,
) -> None:
    """Post a reading's FHIR resources to the hospital's server; posting again is safe."""
    from rich.console import Console

    from client.deployment.site_file import SiteFile
    from client.pacs.extra import require_extra

    settings = SiteFile.load(site)
    pacs = settings.require_pacs()
    require_extra()

    from client.pacs.web.fhir_server import post_transaction
    from shared_model.system.audit_log import AuditLog

    num_new = post_transaction(pacs, AuditLog(settings.audit_log), file.read_text(encoding="utf-8"))
    Console(highlight=False, soft_wrap=True).print(f"Posted; {num_new} resources are new there.")
