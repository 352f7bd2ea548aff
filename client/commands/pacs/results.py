"""``fedmammo site pacs results``."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.commands.flags import HERE, SitePath
from client.deployment.report_kind import ReportKind
from shared_model.vocabulary import LesionType

if TYPE_CHECKING:
    from client.deployment.site_file import SiteFile
    from client.reading.result import Reading


def results(
    reading: Annotated[
        str,
        typer.Argument(metavar="RESULT", help="What fedmammo read --out wrote, or a number of the page."),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files go.")],
    film: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A film that was read; once for each. Not for a number.")
    ] = None,
    *,
    lesion_type: Annotated[LesionType, typer.Option(help="What the lesion is.")] = LesionType.MASS,
    lesion: Annotated[str, typer.Option(help="What the site calls it; no patient's name.")] = "lesion 1",
    report: Annotated[ReportKind | None, typer.Option(help="As what; else as site.yaml says.")] = None,
    site: SitePath = HERE,
) -> None:
    """Write a reading as DICOM files for its films' study, and as FHIR transactions where pacs.patient_system is set.

    RESULT is a file with --film FILE for each of its films, or the number that the page shows below a reading. Times
    are those of the reading, so that writing and sending again stores nothing twice.
    """
    from rich.console import Console

    from client.deployment.site_file import SiteFile
    from client.pacs.extra import require_extra

    settings = SiteFile.load(site)
    pacs = settings.require_pacs()
    require_extra()

    from client.pacs.results.outputs import Outputs, write_outputs

    found, films = _found(settings, reading, film or ())
    wanted = Outputs(folder=out, dicom=report or pacs.report, fhir=None if pacs.patient_system is None else pacs)
    # No result of another reading, or in another form, shall be sent for this one's.
    wanted.remove_older(but=films)
    console = Console(highlight=False, soft_wrap=True)
    for path in write_outputs(found, films, wanted, lesion=lesion, lesion_type=lesion_type):
        console.print(str(path), markup=False)


def _found(site: "SiteFile", result: str, films: Sequence[Path]) -> "tuple[Reading, Sequence[Path]]":
    """Return the reading and its films: of a file and what was named, or of the page."""
    from client.reader_page.kept_films import kept_with_films
    from client.reading.result import read_result

    if re.fullmatch(r"[0-9a-f]{32}", result) is None or Path(result).exists():
        return read_result(Path(result)), films
    if films:
        raise typer.BadParameter("expected no --film with a number: the films of the page's reading are known")
    return kept_with_films(site, result)
