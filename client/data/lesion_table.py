"""One clinical table -> a checked frame, and the frame -> numbers.

The readers (``client.data.cbis_ddsm``, ``client.data.manifest``) turn their format into ``LesionRow``; what a row must
fulfil is decided here, once. A row that does not is set aside with its reason and counted: it never becomes a missing
value.
"""

import csv
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa

from shared_model.errors import RejectLimitError, TableError
from shared_model.system.files import write_atomically
from shared_model.vocabulary import (
    CLINICAL_COLUMNS,
    ClinicalColumn,
    Encoding,
    FeaturePolicy,
    Pathology,
    Split,
    columns_of,
)

BOX_COLUMNS = ("roi_x", "roi_y", "roi_w", "roi_h")
"""Left, top, width and height of the lesion's box in pixels of the image it belongs to; (0, 0) is the top left."""
REJECT_COLUMNS = ("source", "row", "patient_id", "lesion_id", "reason")
LEAVES_ROOT = "path leaves the data root"
NO_IMAGE_FILE = "no image file"
IN_TEST_SPLIT = "patient is in the official test split"

_TEXT = pd.StringDtype()
_MISSING_CELLS = frozenset({"", "NA", "N/A", "NAN", "<NA>", "NULL"})
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{0,18})?")
_LONGEST_LISTING = 20
_LONGEST_QUOTE = 40


def _key(text: str) -> str:
    return re.sub(r"[\s_\-]+", "_", text.strip()).upper()


def _by_key(values: Iterable[str]) -> dict[str, str]:
    return {_key(value): value for value in values}


def _expected(name: str, cell: str, values: Sequence[str]) -> TableError:
    bounds = (
        f"in [{values[0]}, {values[-1]}]" if len(values) > _LONGEST_LISTING else "to be one of " + ", ".join(values)
    )
    return TableError(f"Expected {name}={cell[:_LONGEST_QUOTE]!r} {bounds}.")


def is_missing(text: str) -> bool:
    """Return whether a cell is empty or spells "not recorded", in whatever column."""
    return text.strip().upper() in _MISSING_CELLS


def _whole_number(text: str, *, floor: bool = False) -> str:
    """Return ``"3"`` for ``"3"``, ``" 03 "`` and ``"3.0"``; any other text comes back stripped."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return text
    number = float(text)
    return str(math.floor(number)) if floor or number.is_integer() else text


@lru_cache(maxsize=4096)
def parse_clinical_cell(column: ClinicalColumn, cell: str) -> str | None:
    """Return the canonical value of one cell, or ``None`` where nothing was recorded.

    Case, surrounding space, and space, underscore or hyphen inside a value do not matter. A hyphen also joins several
    values of a multi-hot column, which come back in the vocabulary's order without repeats, so that ``OVAL-ROUND`` and
    ``ROUND-OVAL`` are the same. A whole number may be written ``3.0``. An age in years is rounded down.

    Raises:
        TableError: the cell holds a value outside ``column.values``.
    """
    if is_missing(cell):
        return None
    if column.values[0].isdigit():
        cell = _whole_number(cell, floor=column.name == "age")
        if cell in column.values:
            return cell
        if cell in column.missing:
            return None
        raise _expected(column.name, cell, column.values)
    known = _by_key(column.values)
    if _key(cell) in known:
        return known[_key(cell)]
    if _key(cell) in _by_key(column.missing):
        return None
    parts = {_key(part) for part in cell.split("-")}
    if column.encoding is Encoding.ORDINAL or not parts <= known.keys():
        raise _expected(column.name, cell, column.values)
    return "-".join(value for key, value in known.items() if key in parts)


def parse_outcome(name: str, cell: str) -> tuple[int, Pathology | None]:
    """Return ``(label, pathology)`` of a cell that holds 0, 1 or a pathology; a bare label has no pathology.

    Raises:
        TableError: the cell, of the column ``name``, is empty or holds anything else.
    """
    number = _whole_number(cell)
    if number in {"0", "1"}:
        return int(number), None
    known = {_key(pathology): pathology for pathology in Pathology}
    if _key(cell) not in known:
        raise _expected(name, cell, ("0", "1", *Pathology))
    return known[_key(cell)].label, known[_key(cell)]


def parse_box(cells: Sequence[str]) -> tuple[int | None, ...]:
    """Return ``(roi_x, roi_y, roi_w, roi_h)``, or four times ``None`` where all cells are empty.

    Raises:
        TableError: some cells but not all are empty, or one is no whole number, or the box has no area.
    """
    if all(is_missing(cell) for cell in cells):
        return (None,) * len(BOX_COLUMNS)
    for name, cell, least in zip(BOX_COLUMNS, cells, (0, 0, 1, 1), strict=True):
        number = _whole_number(cell)
        if not number.isdigit() or int(number) < least:
            raise TableError(f"Expected {name}={cell[:_LONGEST_QUOTE]!r} to be a whole number >= {least}.")
    return tuple(int(_whole_number(cell)) for cell in cells)


def relative_path(cell: str) -> PurePosixPath | None:
    """Return a table's path cell as a relative path, or ``None`` for an empty cell.

    Line breaks, and quotes round the path, are dropped: copies of the official tables have both. Nothing on disk is
    looked at.

    Raises:
        TableError: the path is absolute or contains ``..``.
    """
    text = re.sub(r"[\r\n\t\x00]", "", cell).strip(" \"'").replace("\\", "/")
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(text).drive:
        raise TableError(LEAVES_ROOT)
    return path if path.parts else None


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """The cells of one file as text; a column is called by its name in lower case with underscores."""

    source: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]

    def require(self, columns: Iterable[str]) -> None:
        """Check that all ``columns`` are there.

        Raises:
            TableError: one is not.
        """
        if absent := [name for name in columns if name not in self.columns]:
            raise TableError(f"Expected {self.source} to have column {', '.join(absent)}.")


def text_table(source: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> TextTable:
    """Return the cells under canonical column names.

    Raises:
        TableError: two columns have the same name, or a row is longer or shorter than the header.
    """
    columns = tuple(_key(name).lower() for name in header)
    if repeated := [name for name, count in Counter(columns).items() if count > 1]:
        raise TableError(f"Expected {source} to have column {repeated[0]!r} once.")
    named = []
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(columns):
            raise TableError(f"Expected {len(columns)} cells in row {number} of {source}, got {len(cells)}.")
        named.append(dict(zip(columns, cells, strict=True)))
    return TextTable(source=source, columns=columns, rows=tuple(named))


def read_csv(path: Path) -> TextTable:
    """Read a UTF-8 CSV file with a header; cells may contain line breaks, blank lines do not count as rows.

    Raises:
        TableError: the file is missing, empty, not UTF-8, or no well-formed CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            header, *rows = [cells for cells in csv.reader(lines, strict=True) if cells] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"Expected a readable CSV file {path.name}: {error}.") from error
    if not header:
        raise TableError(f"Expected a header in {path.name}, got an empty file.")
    return text_table(path.name, header, rows)


@dataclass(frozen=True, kw_only=True)
class LesionRow:
    """One lesion view as its table gives it; the cells are unchecked text."""

    source: str
    """Name of the table's file."""
    row: int
    """Number of the data row in ``source``, from 1."""
    patient_id: str
    lesion_id: str
    split: str
    outcome_column: str
    clinical: Mapping[str, str]
    """Cells by column name, the outcome among them; a clinical column that is absent was not recorded."""
    box: tuple[str, ...] = ("",) * len(BOX_COLUMNS)
    film_path: str | None = None
    lesion_paths: tuple[str, ...] = ()
    finding: str | None = None
    """What the row shows, the same in every view of it; None where the table does not say."""
    problem: str | None = None
    """Why the reader already knows that the row cannot be used."""


def _is_canonical(column: ClinicalColumn) -> pa.Check:
    def check(cell: str) -> bool:
        try:
            return parse_clinical_cell(column, cell) == cell
        except TableError:
            return False

    return pa.Check(check, element_wise=True, name=f"values of {column.name}")


def _is_path_tuple(cell: object) -> bool:
    return isinstance(cell, tuple) and all(isinstance(path, str) and path for path in cell)


def _one_split_per_patient(frame: pd.DataFrame) -> bool:
    return bool((frame.groupby("patient_id")["split"].nunique() <= 1).all())


def _label_follows_pathology(frame: pd.DataFrame) -> bool:
    known = frame[frame["pathology"].notna()]
    return bool((known["pathology"].eq(Pathology.MALIGNANT).astype("int64") == known["label"]).all())


def _box_is_whole(frame: pd.DataFrame) -> bool:
    return bool(frame[list(BOX_COLUMNS)].notna().sum(axis=1).isin([0, len(BOX_COLUMNS)]).all())


LESION_SCHEMA = pa.DataFrameSchema(
    {
        "patient_id": pa.Column(_TEXT, pa.Check.str_length(min_value=1)),
        "lesion_id": pa.Column(_TEXT, pa.Check.str_length(min_value=1), unique=True),
        "finding_id": pa.Column(_TEXT, pa.Check.str_length(min_value=1)),
        "split": pa.Column(_TEXT, pa.Check.isin(list(Split))),
        "label": pa.Column("int64", pa.Check.isin([0, 1])),
        "pathology": pa.Column(_TEXT, pa.Check.isin(list(Pathology)), nullable=True),
        **{
            column.name: pa.Column(_TEXT, _is_canonical(column), nullable=True, required=not column.optional)
            for column in CLINICAL_COLUMNS
        },
        "film_path": pa.Column(_TEXT, nullable=True),
        "lesion_paths": pa.Column(object, pa.Check(_is_path_tuple, element_wise=True)),
        **{
            name: pa.Column("Int64", pa.Check.ge(least), nullable=True)
            for name, least in zip(BOX_COLUMNS, (0, 0, 1, 1), strict=True)
        },
    },
    checks=[
        pa.Check(_one_split_per_patient, name="one split per patient"),
        pa.Check(_label_follows_pathology, name="label follows pathology"),
        pa.Check(_box_is_whole, name="box whole or absent"),
    ],
    strict=True,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class LesionTable:
    """The usable rows of a site's tables, and those that were set aside."""

    frame: pd.DataFrame
    """One row per lesion view, as ``LESION_SCHEMA`` says; rows of a patient with the same ``finding_id`` show the same
    finding, and no other patient's rows do. ``lesion_paths`` are files that may be crop or mask in any
    order; they and ``film_path`` are relative to the data folder."""
    rejects: pd.DataFrame
    """Unusable rows: ``REJECT_COLUMNS``, ``row`` counted from 1 in the file ``source``."""
    excluded: pd.DataFrame
    """Rows on the training side whose patient is also in the official test split; the same columns. No defect of the
    data, so they do not count as rejects."""

    def __post_init__(self) -> None:
        try:
            LESION_SCHEMA.validate(self.frame)
        except pa.errors.SchemaError as error:
            raise TableError(f"Expected a lesion table: {' '.join(str(error).split())}.") from error
        for name in ("rejects", "excluded"):
            if tuple(getattr(self, name).columns) != REJECT_COLUMNS:
                raise TableError(f"Expected {name} with columns {', '.join(REJECT_COLUMNS)}.")

    @property
    def reject_fraction(self) -> float:
        """Share of rejected rows among usable and rejected ones, in [0, 1]; 0 for a table without rows."""
        return len(self.rejects) / max(1, len(self.frame) + len(self.rejects))


def _record(row: LesionRow) -> dict[str, object]:
    """Return the checked row.

    Raises:
        TableError: the row cannot be used; the message is the reason.
    """
    if not row.patient_id:
        raise TableError("Expected a patient_id, got an empty cell.")
    if row.split not in set(Split):
        raise _expected("split", row.split, tuple(Split))
    if row.problem is not None:
        raise TableError(row.problem)
    label, pathology = parse_outcome(row.outcome_column, row.clinical.get(row.outcome_column, ""))
    return {
        "patient_id": row.patient_id,
        "lesion_id": row.lesion_id,
        "finding_id": row.finding or row.lesion_id,
        "split": row.split,
        "label": label,
        "pathology": pathology and str(pathology),
        **{column.name: parse_clinical_cell(column, row.clinical.get(column.name, "")) for column in CLINICAL_COLUMNS},
        "film_path": row.film_path,
        "lesion_paths": row.lesion_paths,
        **dict(zip(BOX_COLUMNS, parse_box(row.box), strict=True)),
    }


def _duplicates(records: Sequence[tuple[LesionRow, Mapping[str, object]]]) -> dict[int, str]:
    """Return position -> reason of the rows that repeat a lesion.

    The first row of a lesion stays, unless the rows contradict each other on whose lesion it is or on its outcome:
    then nobody knows which is right, and all go.
    """
    positions: dict[str, list[int]] = {}
    for position, (row, _) in enumerate(records):
        positions.setdefault(row.lesion_id, []).append(position)
    reasons = {}
    for same in positions.values():
        facts = {tuple(records[i][1][name] for name in ("patient_id", "split", "label")) for i in same}
        is_contradiction = len(facts) > 1
        reason = "duplicate lesion with another patient, split or outcome" if is_contradiction else "duplicate lesion"
        reasons.update(dict.fromkeys(same if is_contradiction else same[1:], reason))
    return reasons


def _frame(records: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    # The schema takes any text dtype, so the one whose missing value is <NA> is chosen here.
    dtypes: dict[str, Any] = dict.fromkeys(LESION_SCHEMA.columns, _TEXT)
    dtypes |= {"label": "int64", "lesion_paths": object} | dict.fromkeys(BOX_COLUMNS, "Int64")
    return pd.DataFrame({name: pd.Series([r[name] for r in records], dtype=kind) for name, kind in dtypes.items()})


def _set_aside(rows: Sequence[tuple[LesionRow, str]]) -> pd.DataFrame:
    cells = sorted((r.source, r.row, r.patient_id, r.lesion_id, reason) for r, reason in rows)
    frame = pd.DataFrame(cells, columns=list(REJECT_COLUMNS))
    return frame.astype({name: "int64" if name == "row" else _TEXT for name in REJECT_COLUMNS})


def build_lesion_table(rows: Sequence[LesionRow]) -> LesionTable:
    """Check every row; keep the usable ones in their order.

    A patient who has any row in the test split, usable or not, has none on the training side: those rows are excluded,
    whatever else is wrong with them, so that a rejected test row cannot move its patient to the training side.
    """
    test_patients = {row.patient_id for row in rows if row.split == Split.TEST and row.patient_id}
    excluded, rejects, records = [], [], []
    for row in rows:
        if row.split == Split.TRAIN and row.patient_id in test_patients:
            excluded.append((row, IN_TEST_SPLIT))
            continue
        try:
            records.append((row, _record(row)))
        except TableError as error:
            rejects.append((row, str(error)))
    repeated = _duplicates(records)
    rejects += [(records[i][0], reason) for i, reason in repeated.items()]
    return LesionTable(
        frame=_frame([record for i, (_, record) in enumerate(records) if i not in repeated]),
        rejects=_set_aside(rejects),
        excluded=_set_aside(excluded),
    )


def _code(column: ClinicalColumn, cell: str | None) -> npt.NDArray[np.float32]:
    if column.encoding is Encoding.ORDINAL:
        # Equal steps from -1 to 1 in the vocabulary's order; 0, the middle, where nothing was recorded.
        steps = np.linspace(-1, 1, len(column.values), dtype=np.float32)
        return steps[[column.values.index(cell)]] if cell is not None else np.zeros(1, dtype=np.float32)
    parts = set() if cell is None else set(cell.split("-"))
    return np.array([value in parts for value in column.values], dtype=np.float32)


def _encode_column(column: ClinicalColumn, cells: Iterable[object]) -> npt.NDArray[np.float32]:
    canonical = [None if pd.isna(cell) else parse_clinical_cell(column, str(cell)) for cell in cells]  # type: ignore[call-overload]
    codes = {cell: _code(column, cell) for cell in set(canonical)}
    return np.array([codes[cell] for cell in canonical], dtype=np.float32).reshape(-1, column.width)


def encode_clinical(frame: pd.DataFrame, policy: FeaturePolicy) -> npt.NDArray[np.float32]:
    """Encode the columns that ``policy`` admits, as ``ClinicalColumn`` says.

    All constants come from the vocabulary and none from the data, so the encoding costs no privacy and is the same at
    every site.

    Args:
        frame: as ``LesionTable.frame``; an optional column may be absent, which encodes it as missing.
        policy: which columns enter, in the order of ``columns_of(policy)``.

    Returns:
        ``(N, clinical_width(policy))``, float32; ordinal entries in [-1, 1], multi-hot entries 0 or 1.

    Raises:
        TableError: a column that is not optional is absent, or a value is outside the vocabulary.
    """
    blocks = []
    for column in columns_of(policy):
        if column.name not in frame and not column.optional:
            raise TableError(f"Expected the lesion table to have column {column.name}.")
        cells = frame[column.name] if column.name in frame else itertools.repeat(None, len(frame))
        blocks.append(_encode_column(column, cells))
    return np.concatenate(blocks, axis=1)


def write_rejects(table: LesionTable, path: Path) -> None:
    """Write the rejected and then the excluded rows as CSV; ``path`` holds all of them or is left as it was.

    The file names patients, so only its owner may read it.
    """
    cells = pd.concat([table.rejects, table.excluded]).to_csv(index=False)
    write_atomically(path, cells.encode())


def check_rejects(table: LesionTable, max_fraction: float) -> None:
    """Check that not too many rows were rejected; excluded rows do not count.

    Raises:
        RejectLimitError: ``table.reject_fraction`` exceeds ``max_fraction``.
    """
    if table.reject_fraction <= max_fraction:
        return
    reason, count = Counter(table.rejects["reason"]).most_common(1)[0]
    total = len(table.frame) + len(table.rejects)
    raise RejectLimitError(
        f"Expected rejected rows {len(table.rejects)} of {total} = {table.reject_fraction:.3g} <= "
        f"max_fraction={max_fraction}; most common reason ({count} rows): {reason}"
    )
