"""What the usable rows of a lesion table must look like, whatever reader they come from."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from pandas.api.extensions import ExtensionDtype

from client.data.tables.cells import BOX_COLUMNS, parse_clinical_cell
from shared_model.errors import TableError
from shared_model.vocabulary import CLINICAL_COLUMNS, ClinicalColumn, Pathology, Split

TEXT = pd.StringDtype()
Values = Collection[object]


@dataclass(frozen=True, kw_only=True)
class LesionColumn:
    """What a column holds."""

    dtype: str | ExtensionDtype
    expected: str = ""
    """Of the values that are there, in words."""
    holds: Callable[[Values], bool] = lambda _: True
    """Whether all values that are there are so."""
    is_nullable: bool = False
    is_optional: bool = False

    def require(self, name: str, cells: "pd.Series[Any]") -> None:
        """Check the column.

        Raises:
            TableError: it does not hold what it should.
        """
        if cells.dtype != self.dtype:
            raise TableError(f"Expected a lesion table with {name} of type {self.dtype}, got {cells.dtype}.")
        known = cells.dropna()
        if len(known) < len(cells) and not self.is_nullable:
            raise TableError(f"Expected a lesion table with {name} in every row, {len(cells) - len(known)} have none.")
        # Each value once: a million rows hold few different ones. Objects may have no hash.
        if not self.holds(known.tolist() if self.dtype == "object" else known.unique().tolist()):
            raise TableError(f"Expected a lesion table with values of {name} that are {self.expected}.")


def require_lesion_frame(frame: pd.DataFrame) -> None:
    """Check the rows of a lesion table; whatever is asked of them holds for every selection of these rows as well.

    Raises:
        TableError: they are not as ``LESION_COLUMNS`` says, or contradict each other.
    """
    names = list(frame.columns)
    needed = {name for name, column in LESION_COLUMNS.items() if not column.is_optional}
    if not needed <= set(names) <= LESION_COLUMNS.keys() or len(set(names)) < len(names):
        raise TableError(
            f"Expected a lesion table with the columns {', '.join(LESION_COLUMNS)}, got {', '.join(map(str, names))}."
        )
    for name, cells in frame.items():
        LESION_COLUMNS[str(name)].require(str(name), cells)
    for holds, expected in (
        (_one_split_per_patient, "one split per patient"),
        (_label_follows_pathology, "a label that follows the pathology"),
        (_box_is_whole, "a box that is whole or absent"),
        (_lesions_once, "every lesion of a patient once"),
    ):
        if not holds(frame):
            raise TableError(f"Expected a lesion table with {expected}.")


def _is_canonical(column: ClinicalColumn, cells: Values) -> bool:
    """Return whether the cells are spelled as ``parse_clinical_cell`` spells them."""
    try:
        return all(parse_clinical_cell(column, str(cell)) == cell for cell in cells)
    except TableError:
        return False


def _are_path_tuples(cells: Values) -> bool:
    return all(type(cell) is tuple and all(isinstance(path, str) and path for path in cell) for cell in cells)


def _are_at_least(least: int, cells: Values) -> bool:
    return all(isinstance(cell, int) and cell >= least for cell in cells)


def _are_among(known: Values, cells: Values) -> bool:
    return set(cells) <= set(known)


def _one_split_per_patient(frame: pd.DataFrame) -> bool:
    pairs = frame[["patient_id", "split"]].drop_duplicates()
    return not pairs["patient_id"].duplicated().any()


def _label_follows_pathology(frame: pd.DataFrame) -> bool:
    known = frame[frame["pathology"].notna()]
    return bool((known["pathology"].eq(Pathology.MALIGNANT).astype("int64") == known["label"]).all())


def _box_is_whole(frame: pd.DataFrame) -> bool:
    return bool(frame[list(BOX_COLUMNS)].notna().sum(axis=1).isin([0, len(BOX_COLUMNS)]).all())


def _lesions_once(frame: pd.DataFrame) -> bool:
    return not frame.duplicated(["patient_id", "lesion_id"]).any()


_NAME = LesionColumn(dtype=TEXT, expected="not empty", holds=all)
LESION_COLUMNS = {
    "source": LesionColumn(dtype=TEXT),
    "row": LesionColumn(dtype="int64", expected="1 or more", holds=partial(_are_at_least, 1)),
    "patient_id": _NAME,
    "lesion_id": _NAME,
    "finding_id": _NAME,
    "split": LesionColumn(dtype=TEXT, expected=" or ".join(Split), holds=partial(_are_among, list(Split))),
    "label": LesionColumn(dtype="int64", expected="0 or 1", holds=partial(_are_among, (0, 1))),
    "pathology": LesionColumn(
        dtype=TEXT, expected=" or ".join(Pathology), holds=partial(_are_among, list(Pathology)), is_nullable=True
    ),
    **{
        column.name: LesionColumn(
            dtype=TEXT,
            expected="spelled as in the vocabulary",
            holds=partial(_is_canonical, column),
            is_nullable=True,
            is_optional=column.optional,
        )
        for column in CLINICAL_COLUMNS
    },
    "film_path": LesionColumn(dtype=TEXT, is_nullable=True),
    "lesion_paths": LesionColumn(dtype="object", expected="tuples of paths", holds=_are_path_tuples),
    **{
        name: LesionColumn(
            dtype="Int64", expected=f"{least} or more", holds=partial(_are_at_least, least), is_nullable=True
        )
        for name, least in zip(BOX_COLUMNS, (0, 0, 1, 1), strict=True)
    },
}
"""By name. All columns stand in every table, but for optional ones, and no others."""
