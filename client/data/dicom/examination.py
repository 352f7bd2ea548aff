"""Whose film it is, of which day, and what is unusual about it: of a DICOM file's header alone, and of no picture.

Nothing that is trained depends on it. A reader of two views must know whether they are of one patient and one day.
"PS3.x" is the DICOM standard, part x.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from client.data.dicom.reader import header_of
from client.identifiers import folded_or_none

_OF_ONE_PICTURE = re.compile(r"_(?:LEFT|RIGHT)_(?:CC|MLO)(?:_[0-9]+)?$")
"""What CBIS-DDSM adds to a patient's identifier, so that every file of a patient has another."""
_FORMATS = {"PatientBirthDate": r"[0-9]{8}", "PatientSex": r"[MFO]", "StudyDate": r"[0-9]{8}"}
_MODIFIERS = {
    "R-102D6": "magnification", "399163009": "magnification", "R-102D7": "spot compression",
    "399055006": "spot compression", "R-102D5": "implant displaced", "399209000": "implant displaced",
}  # fmt: skip
"""PS3.16 CID 4015, in SNOMED-RT and SNOMED CT."""
_MAX_MAGNIFICATION = 1.3
"""Above it a film is a magnification view; in contact a breast is enlarged by a tenth at most."""
_FLAGS = {
    "BreastImplantPresent": "a breast with an implant",
    "PartialView": "a part of the breast",
    "BurnedInAnnotation": "a picture with text drawn into its pixels",
}


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What a file says of patient and day; empty where it says nothing, or nothing that names anybody."""

    patient: str = ""
    """PatientID, folded as identifiers of tables are."""
    issuer: str = ""
    birth_date: str = ""
    sex: str = ""
    study_date: str = ""
    unusual: tuple[str, ...] = ()
    """What a film shows other than a whole breast in a plain view, in words."""

    def contradiction(self, other: "Examination") -> str | None:
        """Return the attribute by which two files cannot be of one patient and one day; None where there is none."""
        pairs = {
            "PatientID": (self.patient, other.patient),
            "IssuerOfPatientID": (self.issuer, other.issuer),
            "PatientBirthDate": (self.birth_date, other.birth_date),
            "PatientSex": (self.sex, other.sex),
            "StudyDate": (self.study_date, other.study_date),
        }
        return next((name for name, (one, two) in pairs.items() if one and two and one != two), None)


def read_examination(path: Path) -> Examination:
    """Read the header of a DICOM file.

    Raises:
        DicomError: it cannot be read.
    """
    with header_of(path) as dataset:
        dates = {name: _matching(dataset, name, pattern) for name, pattern in _FORMATS.items()}
        return Examination(
            patient=folded_or_none(_OF_ONE_PICTURE.sub("", _text(dataset, "PatientID"))) or "",
            issuer=_text(dataset, "IssuerOfPatientID").casefold(),
            birth_date=dates["PatientBirthDate"],
            sex=dates["PatientSex"],
            study_date=dates["StudyDate"],
            unusual=tuple(dict.fromkeys(_unusual(dataset))),
        )


def _unusual(dataset: Dataset) -> Iterator[str]:
    for view in dataset.get("ViewCodeSequence") or ():
        for item in view.get("ViewModifierCodeSequence") or ():
            if (modifier := _MODIFIERS.get(str(item.get("CodeValue")))) is not None:
                yield f"a view with {modifier}"
    if _number(dataset, "EstimatedRadiographicMagnificationFactor") > _MAX_MAGNIFICATION:
        yield "a view with magnification"
    if "TOMOSYNTHESIS" in _text(dataset, "ImageType").upper():
        yield "a picture computed from a tomosynthesis"
    yield from (words for name, words in _FLAGS.items() if _text(dataset, name).upper() == "YES")


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()


def _matching(dataset: Dataset, keyword: str, pattern: str) -> str:
    text = _text(dataset, keyword)
    return text if re.fullmatch(pattern, text) else ""


def _number(dataset: Dataset, keyword: str) -> float:
    try:
        return float(dataset.get(keyword) or 0)
    except (TypeError, ValueError):
        # Nothing that is read depends on it, so a value that is none counts as not said.
        return 0.0
