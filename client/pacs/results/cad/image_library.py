"""The films of a reading as the image library of a CAD report (TID 4020, PS3.16)."""

from collections.abc import Iterator, Sequence

from pydicom import Dataset
from pydicom.multival import MultiValue

from client.data.dicom.acquisition import pixel_spacing
from client.data.dicom.reader import header_of
from client.pacs.results import codes as used
from client.pacs.results.cad.content_items import code, container, date, film, number, text, time
from client.pacs.results.lesion_reading import LesionReading, MarkedFilm

_CONTEXT = "HAS ACQ CONTEXT"


def image_library(reading: LesionReading, headers: Sequence[Dataset]) -> Dataset:
    """Return the library; its images are the films in their order.

    Raises:
        DicomError: a film cannot be read.
    """
    films = zip(reading.films, headers, strict=True)
    entries = (film("CONTAINS", header, *_context(reading, each, header)) for each, header in films)
    return container("CONTAINS", used.IMAGE_LIBRARY, *entries)


def _context(reading: LesionReading, marked: MarkedFilm, header: Dataset) -> Iterator[Dataset]:
    """Rows 2 to 12, in their order, of what the film says."""
    yield code(_CONTEXT, used.IMAGE_LATERALITY, used.BREASTS[reading.laterality])
    yield code(_CONTEXT, used.IMAGE_VIEW, used.VIEWS[marked.view])
    if isinstance(header.PatientOrientation, MultiValue):
        for name, value in zip(used.ORIENTATION, header.PatientOrientation, strict=True):
            yield text(_CONTEXT, name, str(value))
    if header.StudyDate:
        yield date(_CONTEXT, used.STUDY_DATE, str(header.StudyDate))
    if header.StudyTime:
        yield time(_CONTEXT, used.STUDY_TIME, str(header.StudyTime))
    with header_of(marked.path) as whole:
        spacing = pixel_spacing(whole)
    if spacing is not None:
        down, across = spacing
        yield number(_CONTEXT, used.HORIZONTAL_SPACING, across, used.MILLIMETER)
        yield number(_CONTEXT, used.VERTICAL_SPACING, down, used.MILLIMETER)
