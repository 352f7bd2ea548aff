"""The official case descriptions of CBIS-DDSM: four CSV files, one for each lesion type and split.

Source: Sawyer-Lee et al. 2016, The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2016.7O02S9CY; Lee et al. 2017,
Sci. Data 4:170177. Where the images lie is for ``cbis_ddsm_files``.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from client.data.tables.case_tables import find_table
from client.data.tables.cbis_ddsm_files import ImageIndex, index_images, select_files, subject_folder
from client.data.tables.cells import BOX_COLUMNS, relative_path
from client.data.tables.image_lookup import EMPTY_FILE, NO_IMAGE_FILE
from client.data.tables.image_modes import shows_film
from client.data.tables.lesion_rows import LesionRow
from client.data.tables.lesion_table import LesionTable, build_lesion_table
from client.data.tables.roster import patient_key
from client.data.tables.text_table import TextTable, folded, is_missing
from shared_model.config.choices import ImageMode
from shared_model.errors import TableError
from shared_model.vocabulary import LesionType, Pathology, Split

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


def read_cbis_ddsm(root: Path, *, lesion_types: tuple[LesionType, ...], image_mode: ImageMode | None) -> LesionTable:
    """Read the case descriptions of ``lesion_types`` and find their files.

    ``lesion_paths`` are the files of the series that the crop and the mask cell name, or where no folder has that name
    all files of the subject folder; which is crop and which is mask is for their content to say. ``film_path`` is found
    likewise, and is the first by name where there are several.

    Args:
        root: folder with the tables (or with a folder ``csv`` of them), and with the subject folders in it or some
            levels down.
        lesion_types: which tables to read.
        image_mode: what the network sees of a lesion: a row without the files that it needs is rejected. None looks no
            file up.

    Raises:
        TableError: ``root`` cannot be read, a table or column is missing, or a table is malformed.
        ValueError: ``lesion_types`` is empty.
    """
    if not lesion_types:
        raise ValueError("Expected lesion_types=() to name at least one lesion type.")
    tables = _read_tables(root, lesion_types)
    boxes = _read_boxes(root, lesion_types)
    index = None
    if image_mode is not None:
        index = index_images(root, (path for table in tables for path in _named_paths(table)))
    rows = [
        _lesion_row(table, position, index=index, mode=image_mode, boxes=boxes)
        for table in tables
        for position in range(len(table.text.rows))
    ]
    return build_lesion_table(_without_contradictions(rows))


def types_with_tables(root: Path) -> tuple[LesionType, ...]:
    """Return the lesion types that ``root`` has any case description of."""
    return tuple(kind for kind in LesionType if any(_table(root, kind, split).exists() for split in Split))


def _named_paths(table: _CaseTable) -> Iterator[PurePosixPath]:
    """Yield what the path cells name."""
    for cells in table.text.rows:
        for column in (_FILM, _CROP, _MASK):
            try:
                path = relative_path(cells[column])
            except TableError:
                continue  # The row is rejected with this reason when it is read.
            if path is not None:
                yield path


def _images(
    cells: Mapping[str, str], index: ImageIndex | None, mode: ImageMode | None
) -> tuple[str | None, tuple[str, ...]]:
    """Return ``(film_path, lesion_paths)``; nothing is looked up without an index.

    Raises:
        TableError: a path leaves the data root, belongs to another patient, or what the mode needs is not there.
    """
    film, crop, mask = (relative_path(cells[column]) for column in (_FILM, _CROP, _MASK))
    for path in (film, crop, mask):
        # A film of somebody else would enter training under this patient's privacy budget.
        owner = f"_{cells['patient_id'].strip()}_".casefold()
        if path and owner not in f"_{subject_folder(path)}_".casefold():
            raise TableError("image path belongs to another patient")
    if index is None:
        return None, ()
    films = select_files(film, index)
    lesions = tuple(dict.fromkeys(select_files(crop, index) + select_files(mask, index)))
    if shows_film(mode) and not films:
        raise index.missing(film, f"data.image.mode={mode} needs the film; ")
    if not shows_film(mode) and not lesions:
        raise index.missing(crop or mask)
    used = films[:1] if mode is ImageMode.FILM else lesions if mode is ImageMode.CROP else (*films[:1], *lesions)
    for file in used:
        if not (index.root / file).stat().st_size:
            raise TableError(f"{EMPTY_FILE}: {file!r}")
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


def _without_contradictions(rows: Sequence[LesionRow]) -> list[LesionRow]:
    """Return the rows, those of a finding with two outcomes as a finding each.

    The official tables say nothing of findings. They number the abnormalities of a film, almost always as on the other
    view; where one number is malignant on one view and benign on the other, it counts two abnormalities.
    """
    outcomes: dict[tuple[str, str | None], set[bool]] = {}
    for row in rows:
        is_malignant = folded(row.clinical[row.outcome_column]) == Pathology.MALIGNANT
        outcomes.setdefault((patient_key(row.patient_id), row.finding_id), set()).add(is_malignant)
    return [
        row
        if len(outcomes[patient_key(row.patient_id), row.finding_id]) == 1
        else dataclasses.replace(row, finding_id=None)
        for row in rows
    ]


def _problem(cells: Mapping[str, str]) -> str | None:
    for column in _RENAMED:
        if is_missing(cells[column]):
            return f"Expected {column}, got an empty cell."
    number = _abnormality_number(cells)
    return None if number.isdecimal() else f"Expected abnormality_id={number[:40]!r} to be a whole number."


def _lesion_row(
    table: _CaseTable,
    position: int,
    *,
    index: ImageIndex | None,
    mode: ImageMode | None,
    boxes: _Boxes,
) -> LesionRow:
    cells = table.text.rows[position]
    problem = table.text.problems.get(position) or _problem(cells)
    images: tuple[str | None, tuple[str, ...]] = (None, ())
    if problem is None:
        try:
            images = _images(cells, index, mode)
        except TableError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{NO_IMAGE_FILE}: {error.strerror}"
    lesion_id = _lesion_id(cells, table)
    found = boxes.get(lesion_id, {_NO_BOX})
    if len(found) > 1 and problem is None:
        problem = "Expected one box for the lesion, got several."
    return LesionRow(
        source=table.text.source,
        row=table.text.numbers[position],
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
        is_ragged=position in table.text.problems,
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
    return find_table(root, f"{_FILE_PREFIX[lesion_type]}_case_description_{split}_set.csv")


def _read_boxes(root: Path, lesion_types: Iterable[LesionType]) -> _Boxes:
    """Read the optional ``mass_roi_boxes.csv`` and ``calc_roi_boxes.csv``."""
    boxes: dict[str, set[tuple[str, ...]]] = {}
    for lesion_type in dict.fromkeys(lesion_types):
        path = find_table(root, f"{_FILE_PREFIX[lesion_type]}_roi_boxes.csv")
        if not path.exists():
            continue
        text = TextTable.load(path)
        text.require(("lesion_key", *BOX_COLUMNS))
        for cells in text.rows:
            boxes.setdefault(cells["lesion_key"].strip(), set()).add(tuple(cells[name] for name in BOX_COLUMNS))
    return boxes
