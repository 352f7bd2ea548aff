"""The lesion table: one checked row per view of a lesion, whatever format its site keeps its tables in.

The readers (``cbis_ddsm``, ``manifest``) turn their format into ``LesionRows``; what a row must fulfil is decided in
``row_checks``, once. A row that does not is rejected: set aside with its reason, and counted.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa

from client.data.tables.distinct_cells import ObjectArray, as_objects, first_problem
from client.data.tables.findings import TWO_OUTCOMES, contradicting_findings, finding_names
from client.data.tables.lesion_rows import LesionRow, LesionRows
from client.data.tables.lesion_schema import LESION_SCHEMA
from client.data.tables.rejects import REJECT_COLUMNS, RejectCells, reject_frame, require_few
from client.data.tables.row_checks import CheckedRows
from shared_model.errors import TableError

IN_TEST_SPLIT = "patient is in the official test split"
SET_ASIDE = ("rejects", "excluded", "unreadable")
PARTS = ("frame", *SET_ASIDE)
"""The tables of a ``LesionTable``."""
Rows = npt.NDArray[np.int64]
"""Positions of rows, in order and each once."""


def _no_rows() -> pd.DataFrame:
    return reject_frame([])


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
    """Unusable rows: ``REJECT_COLUMNS``, ``row`` counted from 1 below the header of the file ``source``."""
    excluded: pd.DataFrame
    """Rows on the training side whose patient is also in the official test split; the same columns. No defect of the
    data, so they do not count as rejects."""
    unreadable: pd.DataFrame = field(default_factory=_no_rows)
    """Cells that were not understood and count as not recorded, in rows that are kept; the same columns."""
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
        for name in SET_ASIDE:
            if tuple(getattr(self, name).columns) != REJECT_COLUMNS:
                raise TableError(f"Expected {name} with columns {', '.join(REJECT_COLUMNS)}.")

    def part(self, rows: Mapping[str, Rows], *, respelt: frozenset[str]) -> Self:
        """Return the part with these rows of every table.

        It is not checked again, which takes longer than all else a small site does with its table: whatever
        ``LESION_SCHEMA`` asks of a frame holds for every selection of its rows.

        Args:
            rows: by name of the table, ``PARTS``.
            respelt: those of the patients in the part.

        Raises:
            ValueError: ``rows`` are not in order, or one stands there twice.
        """
        part = copy.copy(self)
        for name in PARTS:
            if (np.diff(rows[name]) <= 0).any():
                raise ValueError(f"Expected rows of {name} in order and each once.")
            # Frozen for everybody else; __init__ would check again.
            object.__setattr__(part, name, getattr(self, name).iloc[rows[name]].reset_index(drop=True))
        object.__setattr__(part, "respelt", respelt)
        return part

    def with_rejects(self, cells: Iterable[RejectCells]) -> Self:
        """Return the table with further rejects."""
        further = list(cells)
        if not further:
            return self
        table = copy.copy(self)
        known = self.rejects.itertuples(index=False, name=None)
        object.__setattr__(table, "rejects", reject_frame([*known, *further]))
        return table

    @property
    def reject_fraction(self) -> float:
        """Share of rejected rows among usable and rejected ones, in [0, 1]; 0 for a table without rows."""
        return len(self.rejects) / max(1, len(self.frame) + len(self.rejects))


def build_lesion_table(rows: Sequence[LesionRow] | LesionRows) -> LesionTable:
    """Check every row; keep the usable ones in their order.

    A patient who has any row in the test split, usable or not, has none on the training side: those rows are excluded,
    whatever else is wrong with them, so that a rejected test row cannot move its patient to the training side. A
    clinical cell that is not understood costs that cell, not the lesion.
    """
    checked = CheckedRows(rows if isinstance(rows, LesionRows) else LesionRows.of(rows))
    frame, is_excluded = checked.frame(), checked.in_both_splits()
    reasons = checked.problems
    frame["finding_id"] = finding_names(frame)
    for check in (_duplicates, _contradictions):
        is_open = pd.isna(reasons) & ~is_excluded
        found = as_objects([None] * len(frame))
        found[is_open] = check(frame[is_open])
        reasons = first_problem(reasons, found)
    is_kept = pd.isna(reasons) & ~is_excluded
    kept = frame[is_kept].reset_index(drop=True)
    rejected = np.flatnonzero(~pd.isna(reasons) & ~is_excluded)
    return LesionTable(
        frame=kept,
        rejects=reject_frame(checked.reject(int(i), reasons[i]) for i in rejected),
        excluded=reject_frame(checked.reject(int(i), IN_TEST_SPLIT) for i in np.flatnonzero(is_excluded)),
        unreadable=reject_frame(checked.unreadable(is_kept)),
        respelt=checked.respelt,
        contested=_contested(kept),
    )


def _duplicates(frame: pd.DataFrame) -> ObjectArray:
    """Return the reasons of the rows that repeat a lesion of their patient.

    The first row of a lesion stays, unless the rows contradict each other on its outcome: then nobody knows which is
    right, and all go.
    """
    keys = ["patient_id", "lesion_id"]
    reasons = as_objects([None] * len(frame))
    is_shared = frame.duplicated(keys, keep=False).to_numpy(dtype=bool)
    if is_shared.any():
        labels = frame[is_shared].groupby(keys, sort=False)["label"]
        contradicts = (labels.transform("min") != labels.transform("max")).to_numpy(dtype=bool)
        is_first = ~frame.duplicated(keys).to_numpy(dtype=bool)[is_shared]
        reasons[is_shared] = np.where(contradicts, "duplicate lesion with another outcome", "duplicate lesion")
        reasons[np.flatnonzero(is_shared)[is_first & ~contradicts]] = None
    return reasons


def _contradictions(frame: pd.DataFrame) -> ObjectArray:
    return as_objects([TWO_OUTCOMES if is_so else None for is_so in contradicting_findings(frame)])


def _contested(frame: pd.DataFrame) -> frozenset[str]:
    """Return the lesions that several patients have."""
    owners = frame[["lesion_id", "patient_id"]].drop_duplicates()["lesion_id"]
    return frozenset(map(str, owners[owners.duplicated()]))


def check_rejects(table: LesionTable, max_fraction: float) -> None:
    """Check that not too many rows were rejected; excluded rows do not count.

    Raises:
        RejectLimitError: ``table.reject_fraction`` exceeds ``max_fraction``.
    """
    num_rows = len(table.frame) + len(table.rejects)
    require_few(table.rejects, num_rows=num_rows, max_fraction=max_fraction)
