"""``fedmammo site pacs fetch``."""

from typing import Annotated

import typer

from client.commands.flags import HERE, SitePath


def fetch(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study Instance UID, as find prints it.")],
    site: SitePath = HERE,
) -> None:
    """Fetch the mammograms of a study over DICOMweb, and print where they lie."""
    from rich.console import Console

    from client.deployment.site_file import SiteFile
    from client.pacs.extra import require_extra

    settings = SiteFile.load(site)
    pacs = settings.require_pacs()
    require_extra()

    from client.pacs.fetching import fetch as fetch_study
    from shared_model.system.audit_log import AuditLog

    fetched = fetch_study(pacs, AuditLog(settings.audit_log), study)
    console = Console(highlight=False, soft_wrap=True)
    for path in fetched.paths:
        console.print(str(path), markup=False)
    console.print(f"{len(fetched.paths)} films, {fetched.num_new} of them new.")
