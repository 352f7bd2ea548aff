"""``fedmammo read``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.deployment.report_kind import ReportKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from client.data.preprocessing import Box
    from client.deployment.site_file import SiteFile
    from client.pacs.results.outputs import Outputs
    from client.reading.request import LesionRequest, Picture
    from client.reading.result import Reading
    from shared_model.release.document import InputContract
    from shared_model.vocabulary import LesionType

ABSTAINED, REFUSED = 2, 3
"""Exit status: of the first there is a result, of wrong usage, which ends with 2 too, there is none."""


def _box(text: object) -> "Box":
    from client.data.preprocessing import Box

    numbers = str(text).split(",")
    try:
        x, y, width, height = map(int, numbers)
        return Box(x=x, y=y, width=width, height=height)
    except ValueError:
        raise typer.BadParameter(f"expected {str(text)[:80]!r} to be x,y,width,height in whole pixels") from None


_BoxOption = Annotated[object, typer.Option(parser=_box, metavar="X,Y,W,H", help="The lesion on the film, in pixels.")]


def read(
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]")] = None,
    *,
    release: Annotated[Path, typer.Option(metavar="FOLDER", help="As fedmammo server release made it.")],
    cc: Annotated[Path | None, typer.Option(metavar="FILE", help="The CC view: DICOM, PNG or JPEG.")] = None,
    mlo: Annotated[Path | None, typer.Option(metavar="FILE", help="The MLO view.")] = None,
    box_cc: _BoxOption = None,
    box_mlo: _BoxOption = None,
    columns: Annotated[
        str | None, typer.Option(metavar="FILE|KEY=VALUE,...", help="What is known of the lesion.")
    ] = None,
    site: Annotated[
        Path | None, typer.Option(metavar="FILE", help="site.yaml: its approved releases and its audit log.")
    ] = None,
    accept_unsigned: Annotated[
        bool, typer.Option("--accept-unsigned", help="Read with a release that nobody signed.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The result, JSON.")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PNG: the pictures, and where the network looked (a hint).")
    ] = None,
    sr: Annotated[
        bool, typer.Option("--sr", help="Write report, presentation states and pictures for the PACS too (DICOM).")
    ] = False,
    report: Annotated[
        ReportKind | None, typer.Option(help="With --sr: which report; else as site.yaml says, or comprehensive.")
    ] = None,
    fhir: Annotated[
        bool, typer.Option("--fhir", help="Write FHIR transactions too; the site names patient_system.")
    ] = False,
) -> None:
    """Read one lesion of this hospital with a release; nothing is sent.

    FOLDER holds the pictures of the lesion, CC and MLO, which say themselves which view they are; or name them with
    --cc and --mlo. Exit status 0: read; 2: abstained; 3: refused, since the lesion does not fit the release. What --sr
    and --fhir write goes into the folder beside --out that has its name without ending.
    """
    if (folder is None) == (cc is None and mlo is None):
        raise typer.BadParameter("expected either a FOLDER or --cc FILE and --mlo FILE")
    import torch

    from client.data.dicom.decoder_pool import stop_decoders
    from client.deployment.site_file import SiteFile
    from client.reading.reader import Reader
    from client.reading.result import Outcome, write_result
    from client.reading.shown import print_reading, write_picture
    from shared_model.system.terminal import log_to_stderr

    log_to_stderr()
    torch.set_num_threads(1)
    pictures = _pictures(folder, cc, mlo, boxes=(box_cc, box_mlo))
    settings = None if site is None else SiteFile.load(site)
    if report is not None and not sr:
        raise typer.BadParameter("expected --sr with --report")
    dicom = (report or _report_of(settings)) if sr else None
    outputs = _outputs(out, settings, dicom=dicom, has_fhir=fhir) if sr or fhir else None
    films = [each.path for each in pictures]
    given = (*films, *(path for path in (site, _file_of(columns)) if path is not None))
    _require_apart((out, picture), given, release=release, outputs=outputs)
    _remove_older((out, picture), outputs, films)
    reader = Reader.open(release, site=settings, accept_unsigned=accept_unsigned)
    request = _request(pictures, columns)
    try:
        reading, maps = reader.read_with_maps(request, has_maps=picture is not None or sr)
    finally:
        stop_decoders()
    if out is not None:
        write_result(reading, out)
    if picture is not None and maps:
        write_picture(reading, maps, picture)
    print_reading(reading)
    if outputs is not None:
        _write(outputs, reading, films, request, reader.release.document.contract)
    status = {Outcome.READ: 0, Outcome.ABSTAINED: ABSTAINED, Outcome.REFUSED: REFUSED}[reading.outcome]
    if status:
        raise typer.Exit(status)


def _report_of(site: "SiteFile | None") -> ReportKind:
    from client.deployment.pacs_section import default_report

    return default_report() if site is None or site.pacs is None else site.pacs.report


def _outputs(out: Path | None, site: "SiteFile | None", *, dicom: ReportKind | None, has_fhir: bool) -> "Outputs":
    if out is None or not out.suffix:
        raise typer.BadParameter("expected --out FILE with an ending, such as result.json, with --sr and --fhir")
    if has_fhir and site is None:
        raise typer.BadParameter("expected --site FILE, whose section pacs names patient_system, with --fhir")
    from client.pacs.extra import require_extra

    require_extra()

    from client.pacs.results.outputs import Outputs

    fhir = site.require_pacs() if has_fhir and site is not None else None
    return Outputs(folder=out.with_suffix(""), dicom=dicom, fhir=fhir)


def _write(
    outputs: "Outputs", reading: "Reading", films: "Sequence[Path]", request: "LesionRequest", contract: "InputContract"
) -> None:
    from client.pacs.results.outputs import LESION, write_outputs
    from client.reading.result import Outcome
    from shared_model.errors import ConfigError, DataError

    try:
        lesion_type = _lesion_type(request, contract)
        for path in write_outputs(reading, films, outputs, lesion=LESION, lesion_type=lesion_type):
            typer.echo(str(path))
    except (ConfigError, DataError) as error:
        if reading.outcome is Outcome.READ:
            raise
        # What is refused need be no film of a patient; the exit status says what became of the lesion.
        typer.echo(f"Nothing for PACS or FHIR: {error}", err=True)


def _lesion_type(request: "LesionRequest", contract: "InputContract") -> "LesionType":
    """Return what the columns say that the lesion is, or else the one type that the release knows."""
    from client.data.tables.cells import parse_clinical_cell
    from shared_model.errors import ConfigError
    from shared_model.vocabulary import CLINICAL_COLUMNS, LesionType

    column = next(each for each in CLINICAL_COLUMNS if each.name == "abnormality_type")
    said = parse_clinical_cell(column, request.columns.get(column.name, ""))
    if said is None and len(contract.lesion_types) > 1:
        raise ConfigError(f"Expected {column.name} in --columns: the release knows several, and a result names one.")
    return contract.lesion_types[0] if said is None else LesionType(said)


def _remove_older(written: "Sequence[Path | None]", outputs: "Outputs | None", films: "Sequence[Path]") -> None:
    # Whatever this reading ends in, no answer to another question stands where its own is looked for.
    if outputs is not None:
        outputs.remove_older(but=films)
    for older in written:
        if older is not None:
            older.unlink(missing_ok=True)


def _require_apart(
    written: "Sequence[Path | None]", read: "Sequence[Path]", *, release: Path, outputs: "Outputs | None"
) -> None:
    """Check that no output takes the place of what is read, nor one output that of another."""
    paths = [path.resolve() for path in written if path is not None]
    if outputs is not None:
        paths += [path.resolve() for path in (outputs.folder, *outputs.paths)]
    if len(set(paths)) < len(paths) or not {path.resolve() for path in read}.isdisjoint(paths):
        raise typer.BadParameter("expected --out and --picture to name files of their own, not one that is read")
    if any(path.is_relative_to(release.resolve()) for path in paths):
        raise typer.BadParameter("expected --out and --picture to name files outside the release")


def _file_of(columns: str | None) -> Path | None:
    from client.reading.request import table_of

    return None if columns is None else table_of(columns)


def _request(pictures: "tuple[Picture, ...]", columns: str | None) -> "LesionRequest":
    from client.reading.request import LesionRequest, columns_from

    return LesionRequest(pictures=pictures, columns={} if columns is None else columns_from(columns))


def _pictures(
    folder: Path | None, cc: Path | None, mlo: Path | None, *, boxes: tuple[object, object]
) -> "tuple[Picture, ...]":
    from client.data.preprocessing import Box
    from client.reading.request import Picture, pictures_in
    from shared_model.vocabulary import View

    views = {View.CC: (cc, boxes[0]), View.MLO: (mlo, boxes[1])}
    found = {view: box if isinstance(box, Box) else None for view, (_, box) in views.items()}
    if folder is not None:
        return pictures_in(folder, found)
    for view, (path, box) in views.items():
        if path is None and box is not None:
            raise typer.BadParameter(f"expected --{view.lower()} FILE with --box-{view.lower()}")
    return tuple(
        Picture(path=path, view=view, box=found[view]) for view, (path, _) in views.items() if path is not None
    )
