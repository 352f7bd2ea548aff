"""What every row of a lesion table must fulfil: columns of text -> columns of values, and the problem of each row."""

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from client.data.tables.cells import BOX_COLUMNS, parse_box, parse_clinical_cell, parse_outcome, parse_split
from client.data.tables.distinct_cells import ObjectArray, as_objects, first_problem, parse_distinct
from client.data.tables.lesion_rows import LesionRows
from client.data.tables.lesion_schema import LESION_SCHEMA, TEXT
from client.data.tables.rejects import RejectCells
from client.identifiers import fold_identifier
from shared_model.errors import TableError
from shared_model.vocabulary import CLINICAL_COLUMNS, Split

BoolArray = npt.NDArray[np.bool_]


class CheckedRows:
    """The rows of a table with what their cells mean."""

    def __init__(self, rows: LesionRows) -> None:
        """Parse every cell."""
        self.rows = rows
        identifiers = parse_distinct(rows.patient_id, _folded_identifier)
        self.spelling, self.respelt = _one_spelling(rows.patient_id, identifiers.values)
        """By row the first spelling of its patient's identifier; and those of several spellings."""
        self._split = parse_distinct(rows.split, parse_split)
        outcomes = list(zip(rows.outcome_column, _outcome_cells(rows), strict=True))
        self._outcome = parse_distinct(outcomes, _parse_outcome)
        self._box = parse_distinct(rows.box, parse_box)
        self._clinical = {
            column: parse_distinct(rows.clinical[column.name], functools.partial(parse_clinical_cell, column))
            for column in CLINICAL_COLUMNS
            if column.name in rows.clinical
        }
        known, outcome = as_objects(rows.problem), self._outcome.problems
        ragged = known.copy()
        ragged[~np.array(rows.is_ragged, dtype=bool)] = None
        self.problems = first_problem(
            ragged, identifiers.problems, self._split.problems, known, outcome, self._box.problems
        )
        """``(N,)``: why the row cannot be used, None where it can."""

    def in_both_splits(self) -> BoolArray:
        """Return ``(N,)``: whether a row on the training side is of a patient who has a row in the test split.

        That row may be unusable.
        """
        is_test, is_training = (self._split.values == split for split in (Split.TEST, Split.TRAIN))
        tested = set(self.spelling[is_test]) - {""}
        return np.array(is_training & pd.Series(self.spelling).isin(tested).to_numpy(dtype=bool), dtype=bool)

    def frame(self) -> pd.DataFrame:
        """Return all rows with the columns of ``LESION_SCHEMA``; those of unusable rows mean nothing."""
        rows, count = self.rows, len(self.rows)
        labels = [(0, None) if outcome is None else outcome for outcome in self._outcome.values]
        nothing = (None,) * len(BOX_COLUMNS)
        boxes = [nothing if box is None else box for box in self._box.values]
        text: dict[str, ObjectArray | Sequence[str] | Sequence[str | None]] = {
            "source": rows.source,
            "patient_id": self.spelling,
            "lesion_id": rows.lesion_id,
            "finding_id": rows.finding_id,
            "split": self._split.values,
            "pathology": [pathology for _, pathology in labels],
            "film_path": rows.film_path,
            **{column.name: parsed.values for column, parsed in self._clinical.items()},
        }
        columns = {name: pd.Series(as_objects(cells), dtype=TEXT) for name, cells in text.items()}
        for column in CLINICAL_COLUMNS:
            columns.setdefault(column.name, pd.Series(as_objects([None] * count), dtype=TEXT))
        for number, name in enumerate(BOX_COLUMNS):
            columns[name] = pd.Series(as_objects([box[number] for box in boxes]), dtype="Int64")
        columns["row"] = pd.Series(np.array(rows.row, dtype=np.int64))
        columns["label"] = pd.Series(np.array([label for label, _ in labels], dtype=np.int64))
        columns["lesion_paths"] = pd.Series(as_objects(rows.lesion_paths), dtype=object)
        return pd.DataFrame({name: columns[name] for name in LESION_SCHEMA.columns})

    def unreadable(self, is_usable: BoolArray) -> list[RejectCells]:
        """Return a row for every cell of a usable row that was not understood and counts as not recorded."""
        return [
            self.reject(int(position), f"kept, the cell taken as missing: {parsed.problems[position]}")
            for parsed in self._clinical.values()
            for position in np.flatnonzero(is_usable & ~pd.isna(parsed.problems))
        ]

    def reject(self, position: int, reason: str) -> RejectCells:
        """Return the cells that name a row and say what is wrong with it."""
        rows = self.rows
        return rows.source[position], rows.row[position], self.spelling[position], rows.lesion_id[position], reason


def _outcome_cells(rows: LesionRows) -> Sequence[str]:
    """Return the outcome's cell of every row; tables call it by different names."""
    names = set(rows.outcome_column)
    if len(names) == 1:
        return rows.clinical.get(names.pop(), [""] * len(rows))
    empty = [""] * len(rows)
    return [rows.clinical.get(name, empty)[i] for i, name in enumerate(rows.outcome_column)]


def _parse_outcome(cell: tuple[str, str]) -> tuple[int, str | None]:
    label, pathology = parse_outcome(*cell)
    return label, pathology and str(pathology)


def _folded_identifier(identifier: str) -> str:
    """Return the folded identifier.

    Raises:
        TableError, ValueError: it names nobody.
    """
    if not identifier:
        raise TableError("Expected a patient_id, got an empty cell.")
    return fold_identifier(identifier)


def _one_spelling(identifiers: Sequence[str], folded: ObjectArray) -> tuple[ObjectArray, frozenset[str]]:
    """Return by row the first spelling of its patient's identifier, and the identifiers that have several."""
    first: dict[str, str] = {}
    respelt, spellings = set[str](), []
    for identifier, key in zip(identifiers, folded, strict=True):
        spelling = identifier if key is None else first.setdefault(key, identifier)
        spellings.append(spelling)
        if spelling != identifier:
            respelt.add(spelling)
    return as_objects(spellings), frozenset(respelt)
