"""``fedmammo site pacs find``."""

from typing import Annotated

import typer

from client.commands.flags import HERE, SitePath
from client.commands.pacs.flags import Day, Over, OverOption, chosen


def find(
    patient: Annotated[str | None, typer.Option(help="Patient ID, whole.")] = None,
    accession: Annotated[str | None, typer.Option(help="Accession number, whole.")] = None,
    day: Day = None,
    over: OverOption = None,
    site: SitePath = HERE,
) -> None:
    """List the PACS's studies with mammograms: of a patient, an accession number or a day."""
    from rich.console import Console

    from client.deployment.site_file import SiteFile
    from client.pacs.extra import require_extra
    from client.pacs.queries import StudyQuery

    settings = SiteFile.load(site).require_pacs()
    require_extra()

    from client.pacs.searching import search

    query = StudyQuery(patient=patient, accession=accession, day=None if day is None else day.date())
    found = search(settings, query, by_web=chosen(over, settings.web_url) is Over.WEB)
    console = Console(highlight=False, soft_wrap=True)
    for study in found.studies:
        console.print(
            f"{study.study}  patient {study.patient}  accession {study.accession or 'none'}  day {study.day or 'none'}"
            f"  images {study.num_images or 'unknown'}",
            markup=False,
        )
    console.print(f"{len(found.studies)} studies.")
    if found.num_ignored:
        console.print(f"{found.num_ignored} answers of the PACS did not fit the question, and are not shown.")
