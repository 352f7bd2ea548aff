"""``fedmammo site pacs results``."""

from pathlib import Path
from typing import Annotated

import typer

from client.commands.flags import HERE, SitePath
from shared_model.vocabulary import LesionType


def results(
    reading: Annotated[Path, typer.Argument(metavar="RESULT", help="What fedmammo read --out wrote.")],
    film: Annotated[list[Path], typer.Option(metavar="FILE", help="A film that was read; once for each.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files go.")],
    lesion_type: Annotated[LesionType, typer.Option(help="What the lesion is.")] = LesionType.MASS,
    lesion: Annotated[str, typer.Option(help="What the site calls it; no patient's name.")] = "lesion 1",
    site: SitePath = HERE,
) -> None:
    """Write a reading as DICOM files for its films' study, and as FHIR transactions where pacs.patient_system is set.

    Times are those of RESULT, so that writing and sending again stores nothing twice.
    """
    from datetime import UTC, datetime

    from rich.console import Console

    from client.deployment.site_file import SiteFile
    from client.pacs.extra import require_extra

    settings = SiteFile.load(site).require_pacs()
    require_extra()

    from client.data.dicom.decoder_pool import stop_decoders
    from client.pacs.results.fhir import write_transactions
    from client.pacs.results.files import write_results
    from client.pacs.results.of_reading import lesion_reading
    from client.reading.result import read_result

    found = read_result(reading)
    read_at = datetime.fromtimestamp(reading.stat().st_mtime, UTC).replace(microsecond=0)
    known = lesion_reading(found, film, lesion=lesion, lesion_type=lesion_type, read_at=read_at)
    try:
        written = write_results(known, out)
    finally:
        stop_decoders()
    if settings.patient_system is not None:
        written += write_transactions(known, out, patient_system=settings.patient_system)
    console = Console(highlight=False, soft_wrap=True)
    for path in written:
        console.print(str(path), markup=False)
