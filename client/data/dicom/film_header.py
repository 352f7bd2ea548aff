"""What a work list needs of a film: read from its header alone, whatever the pixels are."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from client.data.dicom.acquisition import laterality, require_mammogram, view
from client.data.dicom.reader import header_of
from shared_model.errors import DicomError
from shared_model.system.peer_text import peer_text
from shared_model.vocabulary import Laterality, View

_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_LONGEST = 80
_LONGEST_IDENTIFIER = 64
"""Characters (PS3.5 6.2, LO and UI)."""


@dataclass(frozen=True, kw_only=True)
class FilmHeader:
    """One film; texts are printable lines of at most 80 characters, and empty where the file says nothing."""

    patient_id: str
    issuer: str
    """Whose identifier it is; two hospitals may give the same to two patients."""
    study: str
    """Study Instance UID."""
    study_date: str
    """``YYYY-MM-DD``."""
    description: str
    laterality: Laterality | None
    view: View | None
    rows: int
    columns: int
    problem: str | None
    """Why it is none that can be read, for example FOR PROCESSING; None where the header says nothing against it."""


def read_film_header(path: Path) -> FilmHeader:
    """Read the header of a DICOM file.

    Raises:
        DicomError: it is no DICOM file of an image, is damaged, or its identifiers are none.
    """
    with header_of(path) as dataset:
        if not dataset.get("Rows") or not dataset.get("Columns"):
            raise DicomError("Expected a film, got a DICOM object without picture.")
        problem, side, projection = None, None, None
        try:
            require_mammogram(dataset)
            side, projection = laterality(dataset), view(dataset)
        except DicomError as error:
            problem = str(error)
        for keyword in ("PatientID", "IssuerOfPatientID", "StudyInstanceUID"):
            text = str(dataset.get(keyword) or "")
            # Cut or cleaned for the page, two of them could look like one, and mix the films of two patients.
            if len(text) > _LONGEST_IDENTIFIER or not text.isprintable():
                raise DicomError(f"Expected {keyword} of at most {_LONGEST_IDENTIFIER} printable characters.")
        return FilmHeader(
            patient_id=_text(dataset, "PatientID"),
            issuer=_text(dataset, "IssuerOfPatientID"),
            study=_text(dataset, "StudyInstanceUID"),
            study_date=_DATE.sub(r"\1-\2-\3", _text(dataset, "StudyDate")),
            description=_text(dataset, "SeriesDescription"),
            laterality=side,
            view=projection,
            rows=int(dataset.Rows),
            columns=int(dataset.Columns),
            problem=problem,
        )


def _text(dataset: Dataset, keyword: str) -> str:
    return peer_text(str(dataset.get(keyword) or ""), _LONGEST)
