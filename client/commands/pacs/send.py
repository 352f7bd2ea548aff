"""``fedmammo site pacs send``."""

from pathlib import Path
from typing import Annotated

import typer

from client.commands.flags import HERE, SitePath
from client.commands.pacs.flags import Over, OverOption, chosen


def send(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Results of one study, .dcm.")],
    over: OverOption = None,
    site: SitePath = HERE,
) -> None:
    """Store results in the PACS, and say of each whether it is there; the exit status is 0 if all are.

    Sending again is safe: what is there stays, once.
    """
    from rich.console import Console

    from client.deployment.site_file import SiteFile
    from client.pacs.extra import require_extra

    settings = SiteFile.load(site)
    pacs = settings.require_pacs()
    require_extra()

    from client.pacs.sending import Way, read_results
    from client.pacs.sending import send as send_results
    from shared_model.errors import PacsError
    from shared_model.system.audit_log import AuditLog

    way = Way.STOW if chosen(over, pacs.web_url) is Over.WEB else Way.DIMSE
    sent = send_results(pacs, AuditLog(settings.audit_log), read_results(files), way=way)
    console = Console(highlight=False, soft_wrap=True)
    for each in sent:
        console.print(f"{each.path}: {'stored' if each.failure is None else each.failure}", markup=False)
    num_failed = sum(each.failure is not None for each in sent)
    if num_failed:
        raise PacsError(f"Expected {len(sent)} results to be stored, {num_failed} are not; send again, which is safe.")
