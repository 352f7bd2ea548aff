"""``fedmammo site pacs worklist``."""

from client.commands.flags import HERE, SitePath
from client.commands.pacs.flags import Day


def worklist(day: Day = None, site: SitePath = HERE) -> None:
    """List the planned mammographies (modality worklist), of a day or all."""
    from rich.console import Console

    from client.deployment.site_file import SiteFile
    from client.pacs.extra import require_extra

    settings = SiteFile.load(site).require_pacs()
    require_extra()

    from client.pacs.network.association import worklist as ask

    entries = ask(settings, None if day is None else day.date())
    console = Console(highlight=False, soft_wrap=True)
    for entry in entries:
        console.print(
            f"{entry.day} {entry.time}  patient {entry.patient}  accession {entry.accession or 'none'}  "
            f"study {entry.study or 'none'}  station {entry.station or 'none'}",
            markup=False,
        )
    console.print(f"{len(entries)} examinations.")
