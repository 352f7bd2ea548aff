"""The official case descriptions of CBIS-DDSM: four CSV files, one for each lesion type and split.

Source: Sawyer-Lee et al. 2016, The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2016.7O02S9CY; Lee et al. 2017,
Sci. Data 4:170177. Where the images lie is for ``cbis_ddsm_files``.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from client.data.tables.cbis_ddsm_files import SubjectFiles, index_subjects, select_files, subject_folder
from client.data.tables.cells import BOX_COLUMNS, relative_path
from client.data.tables.lesion_table import NO_IMAGE_FILE, LesionRow, LesionTable, build_lesion_table
from client.data.tables.text_table import TextTable, is_missing
from shared_model.errors import TableError
from shared_model.vocabulary import LesionType, Split

_FILE_PREFIX = {LesionType.MASS: "mass", LesionType.CALCIFICATION: "calc"}
"""First word of the names of a lesion type's tables and, capitalised, of its subject folders."""

_SPLIT_FOLDER = {Split.TRAIN: "Training", Split.TEST: "Test"}
_FILM, _CROP, _MASK = "image_file_path", "cropped_image_file_path", "roi_mask_file_path"
_NO_BOX = ("",) * len(BOX_COLUMNS)
_RENAMED = {"left_or_right_breast": "laterality", "image_view": "view"}
_COMMON_COLUMNS = (
    "patient_id",
    "breast_density",
    "left_or_right_breast",
    "image_view",
    "abnormality_id",
    "abnormality_type",
    "assessment",
    "pathology",
    "subtlety",
    _FILM,
    _CROP,
    _MASK,
)
TYPE_COLUMNS = {
    LesionType.MASS: ("mass_shape", "mass_margins"),
    LesionType.CALCIFICATION: ("calc_type", "calc_distribution"),
}
"""Columns that only lesions of one type have."""


_Boxes = Mapping[str, Set[tuple[str, ...]]]
"""Lesion identifier -> the cells of every box that a table gives it."""


@dataclass(frozen=True, kw_only=True)
class _CaseTable:
    text: TextTable
    lesion_type: LesionType
    split: Split


def read_cbis_ddsm(root: Path, *, lesion_types: tuple[LesionType, ...], needs_image: bool) -> LesionTable:
    """Read the case descriptions of ``lesion_types`` and find their files.

    ``lesion_paths`` are the files of the series that the crop and the mask cell name, or where no folder has that name
    all files of the subject folder; which is crop and which is mask is for their content to say. ``film_path`` is found
    likewise, and is the first by name where there are several.

    Args:
        root: folder with the tables, and with the subject folders in it or one level down.
        lesion_types: which tables to read.
        needs_image: whether a row without any file on disk is rejected; if not, no file is looked for at all.

    Raises:
        TableError: ``root`` cannot be read, a table or column is missing, or a table is malformed.
        ValueError: ``lesion_types`` is empty.
    """
    if not lesion_types:
        raise ValueError("Expected lesion_types=() to name at least one lesion type.")
    tables = _read_tables(root, lesion_types)
    boxes = _read_boxes(root, lesion_types)
    subjects = frozenset(subject for table in tables for subject in _subject_folders(table))
    index = index_subjects(root, subjects) if needs_image else None
    return build_lesion_table(
        [
            _lesion_row(table, number, index=index, boxes=boxes)
            for table in tables
            for number in range(1, len(table.text.rows) + 1)
        ]
    )


def types_with_tables(root: Path) -> tuple[LesionType, ...]:
    """Return the lesion types that ``root`` has any case description of."""
    return tuple(kind for kind in LesionType if any(_table(root, kind, split).exists() for split in Split))


def _subject_folders(table: _CaseTable) -> set[str]:
    """Return the subject folders that the path cells name."""
    subjects = set()
    for cells in table.text.rows:
        for column in (_FILM, _CROP, _MASK):
            try:
                subjects.add(subject_folder(relative_path(cells[column])))
            except TableError:
                continue  # The row is rejected with this reason when it is read.
    return subjects - {""}


def _images(cells: Mapping[str, str], index: Mapping[str, SubjectFiles] | None) -> tuple[str | None, tuple[str, ...]]:
    """Return ``(film_path, lesion_paths)``; nothing is looked up without an index.

    Raises:
        TableError: a path leaves the data root, belongs to another patient, or no file is there.
    """
    film, crop, mask = (relative_path(cells[column]) for column in (_FILM, _CROP, _MASK))
    for path in (film, crop, mask):
        # A film of somebody else would enter training under this patient's privacy budget.
        if path and f"_{cells['patient_id'].strip()}_" not in f"_{subject_folder(path)}_":
            raise TableError("image path belongs to another patient")
    if index is None:
        return None, ()
    films = select_files(film, index)
    lesions = tuple(dict.fromkeys(select_files(crop, index) + select_files(mask, index)))
    if not films and not lesions:
        raise TableError(NO_IMAGE_FILE)
    return films[0] if films else None, lesions


def _abnormality_number(cells: Mapping[str, str]) -> str:
    return cells["abnormality_id"].strip().removesuffix(".0")


def _lesion_id(cells: Mapping[str, str], table: _CaseTable) -> str:
    """Return the official name ``Mass-Training_P_00001_LEFT_CC_1``, which is also that of the subject folder."""
    prefix = f"{_FILE_PREFIX[table.lesion_type].capitalize()}-{_SPLIT_FOLDER[table.split]}"
    side, view = (cells[column].strip().upper() for column in _RENAMED)
    number = _abnormality_number(cells)
    return "_".join((prefix, cells["patient_id"].strip(), side, view, number))


def _finding_id(cells: Mapping[str, str], table: _CaseTable) -> str:
    """Return what is the same in all views of a lesion: CBIS-DDSM numbers the abnormalities of a breast."""
    side = cells["left_or_right_breast"].strip().upper()
    return "_".join((_FILE_PREFIX[table.lesion_type], side, _abnormality_number(cells)))


def _problem(cells: Mapping[str, str]) -> str | None:
    for column in _RENAMED:
        if is_missing(cells[column]):
            return f"Expected {column}, got an empty cell."
    number = _abnormality_number(cells)
    return None if number.isdecimal() else f"Expected abnormality_id={number[:40]!r} to be a whole number."


def _lesion_row(
    table: _CaseTable,
    number: int,
    *,
    index: Mapping[str, SubjectFiles] | None,
    boxes: _Boxes,
) -> LesionRow:
    cells = table.text.rows[number - 1]
    problem = table.text.problems.get(number) or _problem(cells)
    images: tuple[str | None, tuple[str, ...]] = (None, ())
    if problem is None:
        try:
            images = _images(cells, index)
        except TableError as error:
            problem = str(error)
    lesion_id = _lesion_id(cells, table)
    found = boxes.get(lesion_id, {_NO_BOX})
    if len(found) > 1 and problem is None:
        problem = "Expected one box for the lesion, got several."
    return LesionRow(
        source=table.text.source,
        row=number,
        patient_id=cells["patient_id"].strip(),
        lesion_id=lesion_id,
        split=table.split,
        outcome_column="pathology",
        clinical={_RENAMED.get(name, name): cell for name, cell in cells.items()},
        box=min(found),
        film_path=images[0],
        lesion_paths=images[1],
        finding_id=_finding_id(cells, table),
        problem=problem,
        is_ragged=number in table.text.problems,
    )


def _read_tables(root: Path, lesion_types: Iterable[LesionType]) -> list[_CaseTable]:
    tables = []
    for lesion_type in dict.fromkeys(lesion_types):
        for split in Split:
            text = TextTable.load(_table(root, lesion_type, split))
            text.require(_COMMON_COLUMNS + TYPE_COLUMNS[lesion_type])
            tables.append(_CaseTable(text=text, lesion_type=lesion_type, split=split))
    return tables


def _table(root: Path, lesion_type: LesionType, split: Split) -> Path:
    return root / f"{_FILE_PREFIX[lesion_type]}_case_description_{split}_set.csv"


def _read_boxes(root: Path, lesion_types: Iterable[LesionType]) -> _Boxes:
    """Read the optional ``mass_roi_boxes.csv`` and ``calc_roi_boxes.csv``."""
    boxes: dict[str, set[tuple[str, ...]]] = {}
    for lesion_type in dict.fromkeys(lesion_types):
        path = root / f"{_FILE_PREFIX[lesion_type]}_roi_boxes.csv"
        if not path.exists():
            continue
        text = TextTable.load(path)
        text.require(("lesion_key", *BOX_COLUMNS))
        for cells in text.rows:
            boxes.setdefault(cells["lesion_key"].strip(), set()).add(tuple(cells[name] for name in BOX_COLUMNS))
    return boxes
