"""A site's own table: one text or Parquet file, with the images beside it or below.

Columns: ``patient_id``, ``label`` (0, 1 or a pathology) and ``split`` (train, test) are required; ``lesion_id``,
``finding_id`` (the same in all views of a patient's lesion), ``image_path``, ``roi_x`` to ``roi_h`` and the clinical
columns of ``shared_model.vocabulary`` are optional.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from client.data.tables.cells import BOX_COLUMNS
from client.data.tables.distinct_cells import ObjectArray, as_objects, first_problem, parse_distinct
from client.data.tables.image_lookup import ImageLookup
from client.data.tables.image_modes import BOX_NEEDS_ROI, ROI_NEEDS_BOX, shows_film
from client.data.tables.lesion_rows import LesionRows
from client.data.tables.lesion_table import LesionTable, build_lesion_table
from client.data.tables.spellings import VALIDATION_SPLITS
from client.data.tables.text_encoding import decode
from client.data.tables.text_table import TextTable, folded, is_missing
from client.identifiers import folded_or_none
from shared_model.config.choices import ImageMode
from shared_model.errors import TableError
from shared_model.system.peer_text import peer_text
from shared_model.system.sentences import nearest
from shared_model.vocabulary import CLINICAL_COLUMNS

logger = logging.getLogger(__name__)

REQUIRED_COLUMNS = ("patient_id", "label", "split")
OPTIONAL_COLUMNS = (
    "lesion_id",
    "finding_id",
    "image_path",
    *BOX_COLUMNS,
    *(column.name for column in CLINICAL_COLUMNS),
)

_IDENTIFYING_COLUMNS = ("patient_id", "image_path", "laterality", "view", "abnormality_type", *BOX_COLUMNS)


_NOTHING: Mapping[str, str] = MappingProxyType({})


def read_manifest(path: Path, *, image_mode: ImageMode | None, filled: Mapping[str, str] = _NOTHING) -> LesionTable:
    """Read a site's manifest.

    An empty ``image_path`` is a lesion without an image and no defect; a named file that is not there is. In ``roi``
    and ``film`` mode it is the film; a box on a film needs ``roi`` mode. An absent ``lesion_id`` is generated: it stays
    the same when rows are added, removed or moved.

    Args:
        path: ``.csv``, ``.tsv``, ``.txt`` or ``.parquet`` file; image paths are relative to its folder.
        image_mode: what the network sees of an image; None looks no image up, and no row has one.
        filled: by column what stands in each of its cells, whatever the file says; none for training.

    Raises:
        TableError: the file is missing or malformed, or lacks a required column.
    """
    table = load_manifest(path).filled(filled)
    table.require(REQUIRED_COLUMNS)
    _warn_of_columns(table)
    _warn_of_validation(table)
    num_rows = len(table.numbers)
    empty = [""] * num_rows
    images = parse_distinct(
        table.cells.get("image_path", empty), ImageLookup(path.parent, needs_file=image_mode is not None).find
    )
    found: list[str | None] = [None] * num_rows if image_mode is None else images.values.tolist()
    box = list(zip(*(table.cells.get(name, empty) for name in BOX_COLUMNS), strict=True))
    ragged = as_objects([table.problems.get(position) for position in range(num_rows)])
    is_film = shows_film(image_mode)
    patients = _stripped(table.cells["patient_id"])
    return build_lesion_table(
        LesionRows(
            source=[table.source] * num_rows,
            row=table.numbers,
            patient_id=patients,
            lesion_id=_lesion_ids(table, patients),
            split=table.cells["split"],
            outcome_column=["label"] * num_rows,
            clinical=table.cells,
            box=box,
            film_path=found if is_film else [None] * num_rows,
            lesion_paths=[(image,) if image and not is_film else () for image in found],
            finding_id=list(parse_distinct(table.cells.get("finding_id", empty), _finding).values),
            problem=first_problem(ragged, images.problems, _box_problems(box, found, image_mode)).tolist(),
            is_ragged=[problem is not None for problem in ragged],
        )
    )


def _stripped(cells: Sequence[str]) -> list[str]:
    """Return every cell without surrounding space, and an empty one where nothing was recorded."""
    return list(parse_distinct(cells, lambda cell: "" if is_missing(cell) else cell.strip()).values)


def _finding(cell: str) -> str | None:
    """Return a finding's number in the one spelling of ``1``, ``01`` and ``1.0``; None where there is none."""
    return None if is_missing(cell) else folded_or_none(cell) or cell.strip()


def _box_problems(
    boxes: Sequence[tuple[str, ...]], images: Sequence[str | None], mode: ImageMode | None
) -> ObjectArray:
    """Return by row what its image mode says against its box, or against its having none."""
    if mode not in (ImageMode.CROP, ImageMode.ROI):
        return as_objects([None] * len(boxes))
    refused, problem = (True, BOX_NEEDS_ROI) if mode is ImageMode.CROP else (False, ROI_NEEDS_BOX)
    has_box = parse_distinct(boxes, lambda cells: not all(map(is_missing, cells))).values
    pairs = zip(has_box, images, strict=True)
    return as_objects([problem if is_there is refused and image else None for is_there, image in pairs])


def _read_parquet(path: Path) -> TextTable:
    try:
        # Nullable dtypes, so that a missing cell does not turn whole numbers into decimal ones.
        frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        detail = " ".join(str(error).split())
        raise TableError(f"Expected a readable Parquet file {path.name}: {detail}.") from error
    columns = [
        ["" if pd.api.types.is_scalar(cell) and pd.isna(cell) else _text(cell) for cell in frame[name]]
        for name in frame
    ]
    return TextTable.from_cells(path.name, [str(name) for name in frame.columns], list(zip(*columns, strict=True)))


def _text(cell: object) -> str:
    """Return a cell as text; other programs than pandas write text as bytes."""
    return decode(cell) if isinstance(cell, bytes) else str(cell)


def load_manifest(path: Path) -> TextTable:
    """Read the cells of a manifest, whatever its columns.

    Raises:
        TableError: the file is missing or malformed.
    """
    readers = dict.fromkeys((".csv", ".tsv", ".txt"), TextTable.load) | {".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise TableError(
            f"Expected the manifest {path.name} to end in {', '.join(readers)}; save a workbook as CSV UTF-8."
        )
    return readers[path.suffix.lower()](path)


def _warn_of_columns(table: TextTable) -> None:
    """Log which columns are not used and which are taken as never recorded: a misspelt name shows up in both."""
    ignored = [name for name in table.columns if name not in REQUIRED_COLUMNS + OPTIONAL_COLUMNS]
    absent = [column.name for column in CLINICAL_COLUMNS if not column.optional and column.name not in table.columns]
    if ignored:
        hints = ", ".join(f"{peer_text(name)}{_hint(name, table.columns)}" for name in ignored)
        logger.warning("%s: columns not used: %s.", table.source, hints)
    if absent:
        logger.warning("%s: no column, so missing in every row: %s.", table.source, ", ".join(absent))


def _hint(name: str, present: Sequence[str]) -> str:
    """Return what a column that is not used was probably meant to be called."""
    known = [column for column in OPTIONAL_COLUMNS if column not in present]
    # "image" is nearer to "age" than to "image_path" by its letters.
    near = next((column for column in known if name in column.split("_")), None) or nearest(name, known)
    return f" (is it {near}?)" if near else ""


def _warn_of_validation(table: TextTable) -> None:
    """Log how many rows of a validation split stand on the training side."""
    count = sum(count for cell, count in Counter(table.cells["split"]).items() if folded(cell) in VALIDATION_SPLITS)
    if count:
        logger.warning(
            "%s: %d rows of a validation split stand on the training side: a site draws by its own secret which of its "
            "training patients are kept to choose the threshold.",
            table.source,
            count,
        )


def _lesion_ids(table: TextTable, patients: Sequence[str]) -> list[str]:
    """Return the identifier of every row, generated where the table has none.

    A generated one depends on what identifies the lesion, not on where its row stands. Rows with the same image (and
    box, side, view and type) are the same lesion and get the same identifier. Rows without an image may be several
    lesions of a breast that look alike on paper, so these are numbered.
    """
    empty = [""] * len(patients)
    given = _stripped(table.cells.get("lesion_id", empty))
    columns = [parse_distinct(table.cells.get(name, empty), str.strip).values for name in _IDENTIFYING_COLUMNS]
    images, seen, ids = columns[_IDENTIFYING_COLUMNS.index("image_path")], Counter[str](), []
    for name, patient, image, facts in zip(given, patients, images, zip(*columns, strict=True), strict=True):
        digest = hashlib.sha256("\x1f".join(facts).encode()).hexdigest()[:16]
        number = 0 if image else seen[digest]
        seen[digest] += 1
        ids.append(name or f"{patient}-{digest}" + (f"-{number}" if number else ""))
    return ids
