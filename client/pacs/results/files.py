"""The DICOM files of a reading, written for the film's own study."""

import logging
import warnings
from pathlib import Path

from pydicom import Dataset

from client.deployment.report_kind import ReportKind
from client.pacs.results.cad.report import cad_report
from client.pacs.results.film_header import read_header, require_one_study
from client.pacs.results.identity import encoded
from client.pacs.results.lesion_reading import LesionReading, MarkedFilm
from client.pacs.results.picture import picture
from client.pacs.results.presentation_state import presentation_state
from client.pacs.results.structured_report import structured_report
from shared_model.errors import DicomError
from shared_model.system.files import write_atomically
from shared_model.vocabulary import View

_REPORTS = {
    ReportKind.COMPREHENSIVE: ("report.dcm", structured_report),
    ReportKind.CAD: ("cad-report.dcm", cad_report),
}
_STATE, _PICTURE = "state-{}.dcm", "picture-{}.dcm"
DICOM_FILES = (
    *(name for name, _ in _REPORTS.values()),
    *(name.format(view.lower()) for name in (_STATE, _PICTURE) for view in View),
)
"""Names of all files that may be written."""

logging.getLogger("highdicom").setLevel(logging.CRITICAL)


def result_objects(reading: LesionReading, report: ReportKind) -> dict[str, Dataset]:
    """Return report, presentation states and pictures of a reading, by the name of their file.

    The same reading gives the same bytes.

    Raises:
        DicomError: a film cannot be read, a box lies beyond its film, the films are of several patients or studies, or
            a CAD report has no marked lesion to be of.
    """
    name_of_report, make_report = _REPORTS[report]
    headers = [read_header(film.path) for film in reading.films]
    require_one_study(headers)
    for film, header in zip(reading.films, headers, strict=True):
        _require_on_film(film, header)
    try:
        with warnings.catch_warnings():
            # highdicom's own show names of patients.
            warnings.simplefilter("ignore")
            made = {name_of_report: make_report(reading, headers)}
            for film, header in zip(reading.films, headers, strict=True):
                name = film.view.lower()
                made[_STATE.format(name)] = presentation_state(reading, film, header)
                made[_PICTURE.format(name)] = picture(reading, film, header)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DicomError(f"Expected films whose headers a result can copy: {' '.join(str(error).split())}") from error
    return made


def write_results(reading: LesionReading, folder: Path, report: ReportKind) -> tuple[Path, ...]:
    """Write the DICOM files of a reading into ``folder`` and return their paths.

    Raises:
        DicomError: as ``result_objects``.
        OSError: they cannot be written.
    """
    contents = {name: encoded(dataset) for name, dataset in result_objects(reading, report).items()}
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return tuple(folder / name for name in contents)


def _require_on_film(film: MarkedFilm, header: Dataset) -> None:
    rows, columns = (int(header.get(name) or 0) for name in ("Rows", "Columns"))
    box = film.box
    if box is not None and (box.x + box.width > columns or box.y + box.height > rows):
        raise DicomError(f"{film.path}: Expected {box} on a film of {columns} x {rows} pixels.")
