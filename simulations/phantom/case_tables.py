"""Writes the tables of the phantom: the four case descriptions of CBIS-DDSM, and who was seen at which hospital."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from shared_model.vocabulary import LesionType, Split
from simulations.phantom.file_plan import LesionView
from simulations.phantom.patients import Patient

_TABLES = {
    LesionType.MASS: ("mass", "breast_density", "mass shape", "mass margins"),
    LesionType.CALCIFICATION: ("calc", "breast density", "calc type", "calc distribution"),
}
"""First word of the file's name, and the columns in which the two tables differ."""


def write_tables(root: Path, patients: Iterable[Patient], views: Sequence[LesionView]) -> None:
    """Write the four case descriptions of ``views``, and ``sites.csv`` with the hospital of every patient."""
    for lesion_type, (word, density, shape_or_type, margins_or_distribution) in _TABLES.items():
        header = (
            f"patient_id,{density},left or right breast,image view,abnormality id,abnormality type,{shape_or_type},"
            f"{margins_or_distribution},assessment,pathology,subtlety,image file path,"
            "cropped image file path,ROI mask file path"
        ).split(",")
        for split in Split:
            rows = [
                _row(view) for view in views if view.lesion.lesion_type is lesion_type and view.lesion.split is split
            ]
            _write_csv(root / f"{word}_case_description_{split}_set.csv", header, rows, line_end="\r\n")
    sites = [(patient.patient_id, patient.series_letter, patient.institution) for patient in patients]
    _write_csv(root / "sites.csv", ("patient_id", "ddsm_series_letter", "institution"), sites, line_end="\n")


def _row(view: LesionView) -> tuple[str | int, ...]:
    """Return the cells of one row; one of the two last paths ends in a line break, as in the official tables."""
    lesion = view.lesion
    is_mass = lesion.lesion_type is LesionType.MASS
    crop = _cell(view.crop.folder(is_newer=False), view.crop_number)
    mask = _cell(view.mask.folder(is_newer=False), view.mask_number)
    return (
        view.patient.patient_id,
        lesion.recorded_density,
        lesion.laterality,
        view.view,
        lesion.number,
        lesion.lesion_type,
        lesion.shape_or_type,
        lesion.margins_or_distribution,
        lesion.assessment,
        lesion.pathology,
        lesion.subtlety,
        _cell(view.film.folder(is_newer=False), 0),
        crop if is_mass else crop + "\n",
        mask + "\n" if is_mass else mask,
    )


def _cell(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.dcm"


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | int]], *, line_end: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=line_end)
    writer.writerow(header)
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode())
