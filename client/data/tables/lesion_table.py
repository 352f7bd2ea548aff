"""The lesion table: one checked row per view of a lesion, whatever format its site keeps its tables in.

The readers (``cbis_ddsm``, ``manifest``) turn their format into ``LesionRow``; what a row must fulfil is decided here,
once. A row that does not is rejected: set aside with its reason, and counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa

from client.data.tables.cells import BOX_COLUMNS, parse_box, parse_clinical_cell, parse_outcome, unexpected
from shared_model.errors import RejectLimitError, TableError
from shared_model.system.files import write_atomically
from shared_model.vocabulary import CLINICAL_COLUMNS, ClinicalColumn, Pathology, Split

REJECT_COLUMNS = ("source", "row", "patient_id", "lesion_id", "reason")
NO_IMAGE_FILE = "no image file"
IN_TEST_SPLIT = "patient is in the official test split"
_TEXT = pd.StringDtype()


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
    finding_id: str | None = None
    """What the row shows, the same in every view of it; None where the table does not say."""
    problem: str | None = None
    """Why the reader already knows that the row cannot be used."""


def _is_canonical(column: ClinicalColumn) -> pa.Check:
    def check(cell: str) -> bool:
        """Return whether ``cell`` is spelled as ``parse_clinical_cell`` spells it."""
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
        raise unexpected("split", row.split, tuple(Split))
    if row.problem is not None:
        raise TableError(row.problem)
    label, pathology = parse_outcome(row.outcome_column, row.clinical.get(row.outcome_column, ""))
    return {
        "patient_id": row.patient_id,
        "lesion_id": row.lesion_id,
        "finding_id": row.finding_id or row.lesion_id,
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
