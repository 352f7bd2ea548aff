"""A site's own table: one CSV or Parquet file, with the images beside it or below.

Columns: ``patient_id``, ``label`` (0, 1 or a pathology) and ``split`` (train, test) are required; ``lesion_id``,
``finding_id`` (the same in all views of a patient's lesion), ``image_path``, ``roi_x`` to ``roi_h`` and the clinical
columns of ``shared_model.vocabulary`` are optional.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import pandas as pd

from client.data.tables.cells import BOX_COLUMNS, LEAVES_ROOT, relative_path
from client.data.tables.lesion_table import NO_IMAGE_FILE, LesionRow, LesionTable, build_lesion_table
from client.data.tables.text_table import TextTable, is_missing
from shared_model.errors import TableError
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


def read_manifest(path: Path, *, needs_image: bool, filled: Mapping[str, str] = _NOTHING) -> LesionTable:
    """Read a site's manifest.

    An empty ``image_path`` is a lesion without an image and no defect; a named file that is not there is. An absent
    ``lesion_id`` is generated: it stays the same when rows are added, removed or moved.

    Args:
        path: ``.csv`` or ``.parquet`` file; image paths are relative to its folder.
        needs_image: whether images are looked up; if not, ``lesion_paths`` is empty throughout.
        filled: by column what stands in each of its cells, whatever the file says; none for training.

    Raises:
        TableError: the file is missing or malformed, or lacks a required column.
    """
    table = load_manifest(path).filled(filled)
    table.require(REQUIRED_COLUMNS)
    _warn_of_columns(table)
    folder = path.resolve().parent
    return build_lesion_table(
        [
            _lesion_row(
                table,
                number,
                folder=folder,
                lesion_id=generated if is_missing(cells.get("lesion_id", "")) else cells["lesion_id"].strip(),
                needs_image=needs_image,
            )
            for number, (cells, generated) in enumerate(
                zip(table.rows, _generated_ids(table.rows), strict=True), start=1
            )
        ]
    )


def _read_parquet(path: Path) -> TextTable:
    try:
        # Nullable dtypes, so that a missing cell does not turn whole numbers into decimal ones.
        frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        detail = " ".join(str(error).split())
        raise TableError(f"Expected a readable Parquet file {path.name}: {detail}.") from error
    columns = [
        ["" if pd.api.types.is_scalar(cell) and pd.isna(cell) else str(cell) for cell in frame[name]] for name in frame
    ]
    return TextTable.from_cells(path.name, [str(name) for name in frame.columns], list(zip(*columns, strict=True)))


def load_manifest(path: Path) -> TextTable:
    """Read the cells of a manifest, whatever its columns.

    Raises:
        TableError: the file is missing or malformed.
    """
    readers = {".csv": TextTable.load, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise TableError(f"Expected the manifest {path.name} to end in .csv or .parquet.")
    return readers[path.suffix.lower()](path)


def _warn_of_columns(table: TextTable) -> None:
    """Log which columns are not used and which are taken as never recorded: a misspelt name shows up in both."""
    ignored = [name for name in table.columns if name not in REQUIRED_COLUMNS + OPTIONAL_COLUMNS]
    absent = [column.name for column in CLINICAL_COLUMNS if not column.optional and column.name not in table.columns]
    if ignored:
        logger.warning("%s: columns not used: %s.", table.source, ", ".join(ignored))
    if absent:
        logger.warning("%s: no column, so missing in every row: %s.", table.source, ", ".join(absent))


def _generated_ids(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return an identifier per row that depends on what identifies the lesion, not on where its row stands.

    Rows with the same image (and box, side, view and type) are the same lesion and get the same identifier. Rows
    without an image may be several lesions of a breast that look alike on paper, so these are numbered.
    """
    ids, seen = [], Counter[str]()
    for cells in rows:
        facts = "\x1f".join(cells.get(name, "").strip() for name in _IDENTIFYING_COLUMNS)
        digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
        number = 0 if cells.get("image_path", "").strip() else seen[digest]
        seen[digest] += 1
        ids.append(f"{cells['patient_id'].strip()}-{digest}" + (f"-{number}" if number else ""))
    return ids


def _image(cell: str, folder: Path, *, needs_image: bool) -> PurePosixPath | None:
    """Return the image's path relative to ``folder``, or ``None`` where the row has none.

    Raises:
        TableError: the path leaves ``folder``, by itself or through a symbolic link, or is needed and not a file.
    """
    path = relative_path("" if is_missing(cell) else cell)
    if path is None:
        return None
    try:
        target = (folder / path).resolve()
        is_file = target.is_file()
    except (OSError, RuntimeError) as error:  # A name that is too long, or links in a circle.
        raise TableError(NO_IMAGE_FILE) from error
    if not target.is_relative_to(folder):
        raise TableError(LEAVES_ROOT)
    if needs_image and not is_file:
        raise TableError(NO_IMAGE_FILE)
    return path if needs_image else None


def _lesion_row(table: TextTable, number: int, *, folder: Path, lesion_id: str, needs_image: bool) -> LesionRow:
    cells = table.rows[number - 1]
    image, problem = None, table.problems.get(number)
    try:
        image = _image(cells.get("image_path", ""), folder, needs_image=needs_image)
    except TableError as error:
        problem = str(error)
    return LesionRow(
        source=table.source,
        row=number,
        patient_id="" if is_missing(cells["patient_id"]) else cells["patient_id"].strip(),
        lesion_id=lesion_id,
        split=cells["split"].strip().lower(),
        outcome_column="label",
        clinical=cells,
        box=tuple(cells.get(name, "") for name in BOX_COLUMNS),
        lesion_paths=(str(image),) if image else (),
        finding_id=None if is_missing(cells.get("finding_id", "")) else cells["finding_id"].strip(),
        problem=problem,
        is_ragged=number in table.problems,
    )
