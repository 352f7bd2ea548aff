"""What an output copies from its film: patient, study and grey scale; values that break the standard stay behind.

An output in the film's own study must carry the film's patient and study as the film has them (PS3.3 C.7.1, C.7.2).
"PS3.x" is the DICOM standard, part x.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from highdicom import SpecificCharacterSetValues
from pydicom import Dataset
from pydicom.multival import MultiValue

from client.data.dicom.acquisition import require_mammogram
from client.data.dicom.reader import header_of
from client.pacs.incoming import is_uid
from shared_model.errors import DicomError
from shared_model.vocabulary import Laterality

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_LINE, _NAME = 64, 3 * 64 + 2
"""Characters of a text of one line, and of a name in three ways of writing (PS3.5 6.2, LO and PN)."""
_TEXTS = {
    "PatientID": _LINE,
    "IssuerOfPatientID": _LINE,
    "PatientName": _NAME,
    "AccessionNumber": _LINE,
    "StudyID": _LINE,
    "ReferringPhysicianName": _NAME,
}
_FORMATS = {
    "PatientBirthDate": r"([0-9]{8})?",
    "PatientSex": r"[MFO]?",
    "StudyDate": r"([0-9]{8})?",
    "StudyTime": r"([0-9]{2}([0-9]{2}([0-9]{2}(\.[0-9]{1,6})?)?)?)?",
}
_GREY_SCALE = (
    *("SamplesPerPixel", "Rows", "Columns", "PhotometricInterpretation", "BitsStored", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence"),
)
_ORIENTATION = r"[LRAPHF]{1,3}\\[LRAPHF]{1,3}"
_CHARACTER_SET, _DEFAULT_SET, _UNICODE = "SpecificCharacterSet", "ISO 2022 IR 6", "ISO_IR 192"
_KNOWN_SETS = frozenset(known.value for known in SpecificCharacterSetValues)


def read_header(path: Path) -> Dataset:
    """Return the attributes that outputs copy, without pixels.

    Raises:
        DicomError: the file cannot be read, is no mammogram, or lacks an identifier.
    """
    with header_of(path) as film:
        require_mammogram(film)
        return _copied(film)


def require_one_study(headers: Sequence[Dataset]) -> str:
    """Return the study of all films.

    Raises:
        DicomError: they are of several studies, or of several patients.
    """
    whose = ("StudyInstanceUID", "PatientID", "IssuerOfPatientID")
    found = {tuple(str(header.get(name)) for name in whose) for header in headers}
    if len(found) != 1:
        raise DicomError(f"Expected films of one patient and one study, got {len(found)}; read them one by one.")
    return str(headers[0].StudyInstanceUID)


def finish(dataset: Dataset, film: Dataset, laterality: Laterality | None) -> None:
    """Add in place what highdicom does not copy: character set, issuer of the patient's number, side of a paired organ.

    Args:
        dataset: an output.
        film: as ``read_header`` returns it.
        laterality: for objects whose series have one (PS3.3 C.7.3.1), else None.
    """
    if film.get(_CHARACTER_SET):
        dataset.SpecificCharacterSet = film.SpecificCharacterSet
    if film.get("IssuerOfPatientID"):
        dataset.IssuerOfPatientID = film.IssuerOfPatientID
    if laterality is not None:
        dataset.Laterality = laterality[0]


def _copied(film: Dataset) -> Dataset:
    header = Dataset()
    for name in _UIDS:
        value = str(film.get(name) or "")
        if not is_uid(value):
            raise DicomError(f"Expected {name} to be a UID, got none: this film can have no result in a PACS.")
        setattr(header, name, value)
    for name, longest in _TEXTS.items():
        value = film.get(name) or ""
        if isinstance(value, MultiValue) or len(str(value)) > longest:
            raise DicomError(f"Expected {name} of one value of at most {longest} characters.")
        if not str(value).isprintable():
            raise DicomError(f"Expected {name} without control characters.")
        setattr(header, name, value)
    for name, pattern in _FORMATS.items():
        value = str(film.get(name) or "")
        setattr(header, name, value if re.fullmatch(pattern, value) else "")
    for name in filter(film.__contains__, _GREY_SCALE):
        header[name] = film[name]
    _name_character_set(header, film)
    header.PatientOrientation = _orientation(film)
    header.Modality = "MG"
    return header


def _name_character_set(header: Dataset, film: Dataset) -> None:
    """Give ``header`` the film's character sets, if it names any; Unicode where highdicom knows them not, as Korean."""
    sets = film.get(_CHARACTER_SET)
    if not sets:
        return
    several = list(sets) if isinstance(sets, MultiValue) else [sets]
    # An empty first one is the default (PS3.3 C.12.1.1.2), for which highdicom wants its name.
    named = [several[0] or _DEFAULT_SET, *several[1:]]
    is_known = _KNOWN_SETS.issuperset(named)
    header.SpecificCharacterSet = (named if len(named) > 1 else named[0]) if is_known else _UNICODE


def _orientation(film: Dataset) -> list[str] | str:
    """Return PatientOrientation; empty where it is none, as in CBIS-DDSM, which has the view there."""
    value = film.get("PatientOrientation")
    is_valid = isinstance(value, MultiValue) and re.fullmatch(_ORIENTATION, "\\".join(map(str, value))) is not None
    return [str(part) for part in value] if is_valid and value is not None else ""
