"""The lesion table: one checked row per view of a lesion, whatever format its site keeps its tables in.

The readers (``cbis_ddsm``, ``manifest``) turn their format into ``LesionRow``; what a row must fulfil is decided here,
once. A row that does not is rejected: set aside with its reason, and counted.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa

from client.data.tables.cells import BOX_COLUMNS, parse_box, parse_clinical_cell, parse_outcome, unexpected
from client.data.tables.lesion_schema import LESION_SCHEMA, TEXT
from client.identifiers import fold_identifier, folded_or_none
from shared_model.errors import RejectLimitError, TableError
from shared_model.system.files import write_atomically
from shared_model.vocabulary import CLINICAL_COLUMNS, Split

REJECT_COLUMNS = ("source", "row", "patient_id", "lesion_id", "reason")
NO_IMAGE_FILE = "no image file"
IN_TEST_SPLIT = "patient is in the official test split"


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
    is_ragged: bool = False
    """Whether the problem is the number of its cells, so that nobody knows what any of them is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LesionTable:
    """The usable rows of a site's tables, and those that were set aside.

    What becomes of a row depends on rows of the same patient alone: nobody's lesions change with another patient.
    """

    frame: pd.DataFrame
    """One row per lesion view, as ``LESION_SCHEMA`` says; rows of a patient with the same ``finding_id`` show the same
    finding, and no other patient's rows do. ``lesion_paths`` are files that may be crop or mask in any
    order; they and ``film_path`` are relative to the data folder."""
    rejects: pd.DataFrame
    """Unusable rows: ``REJECT_COLUMNS``, ``row`` counted from 1 in the file ``source``."""
    excluded: pd.DataFrame
    """Rows on the training side whose patient is also in the official test split; the same columns. No defect of the
    data, so they do not count as rejects."""
    respelt: frozenset[str] = frozenset()
    """Patients whose identifier is spelt in several ways; in ``frame`` all their rows have the first of them."""
    contested: frozenset[str] = frozenset()
    """Values of ``lesion_id`` that rows of several patients have. They stay, as if the patients' names stood before
    them; people at the site should say whose lesion it is."""

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
    if row.is_ragged and row.problem is not None:
        raise TableError(row.problem)
    if not row.patient_id:
        raise TableError("Expected a patient_id, got an empty cell.")
    try:
        fold_identifier(row.patient_id)
    except ValueError as error:
        raise TableError(str(error)) from error
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
    """Return position -> reason of the rows that repeat a lesion of their patient.

    The first row of a lesion stays, unless the rows contradict each other on its outcome: then nobody knows which is
    right, and all go.
    """
    positions: dict[tuple[str, str], list[int]] = {}
    for position, (row, _) in enumerate(records):
        positions.setdefault((row.patient_id, row.lesion_id), []).append(position)
    reasons = {}
    for same in positions.values():
        is_contradiction = len({records[i][1]["label"] for i in same}) > 1
        reason = "duplicate lesion with another outcome" if is_contradiction else "duplicate lesion"
        reasons.update(dict.fromkeys(same if is_contradiction else same[1:], reason))
    return reasons


def _contested(records: Sequence[Mapping[str, object]]) -> frozenset[str]:
    """Return the lesions that several patients have."""
    owners: dict[str, set[object]] = {}
    for record in records:
        owners.setdefault(str(record["lesion_id"]), set()).add(record["patient_id"])
    return frozenset(lesion for lesion, patients in owners.items() if len(patients) > 1)


def _frame(records: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    # The schema takes any text dtype, so the one whose missing value is <NA> is chosen here.
    dtypes: dict[str, Any] = dict.fromkeys(LESION_SCHEMA.columns, TEXT)
    dtypes |= {"label": "int64", "lesion_paths": object} | dict.fromkeys(BOX_COLUMNS, "Int64")
    return pd.DataFrame({name: pd.Series([r[name] for r in records], dtype=kind) for name, kind in dtypes.items()})


def _set_aside(rows: Sequence[tuple[LesionRow, str]]) -> pd.DataFrame:
    cells = sorted((r.source, r.row, r.patient_id, r.lesion_id, reason) for r, reason in rows)
    frame = pd.DataFrame(cells, columns=list(REJECT_COLUMNS))
    return frame.astype({name: "int64" if name == "row" else TEXT for name in REJECT_COLUMNS})


def build_lesion_table(rows: Sequence[LesionRow]) -> LesionTable:
    """Check every row; keep the usable ones in their order.

    A patient who has any row in the test split, usable or not, has none on the training side: those rows are excluded,
    whatever else is wrong with them, so that a rejected test row cannot move its patient to the training side.
    """
    rows, respelt = _with_one_spelling(rows)
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
    kept = [record for i, (_, record) in enumerate(records) if i not in repeated]
    return LesionTable(
        frame=_frame(kept),
        rejects=_set_aside(rejects),
        excluded=_set_aside(excluded),
        respelt=respelt,
        contested=_contested(kept),
    )


def _with_one_spelling(rows: Sequence[LesionRow]) -> tuple[list[LesionRow], frozenset[str]]:
    """Return the rows with the first spelling of every patient's identifier, and those of several spellings."""
    first: dict[str, str] = {}
    respelt, unified = set(), []
    for row in rows:
        folded = folded_or_none(row.patient_id)
        spelling = row.patient_id if folded is None else first.setdefault(folded, row.patient_id)
        if spelling != row.patient_id:
            respelt.add(spelling)
        unified.append(dataclasses.replace(row, patient_id=spelling))
    return unified, frozenset(respelt)


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
