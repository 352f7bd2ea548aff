"""Rows of lesions as a reader hands them over: unchecked text, column by column."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from client.data.tables.cells import BOX_COLUMNS


@dataclass(frozen=True, kw_only=True)
class LesionRow:
    """One lesion view as its table gives it; the cells are unchecked text."""

    source: str
    """Name of the table's file."""
    row: int
    """Number of the row in ``source``: 1 is the row below the header."""
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


@dataclass(frozen=True, kw_only=True)
class LesionRows:
    """Many rows: the fields of ``LesionRow``, each a sequence with an entry for every row."""

    source: Sequence[str]
    row: Sequence[int]
    patient_id: Sequence[str]
    lesion_id: Sequence[str]
    split: Sequence[str]
    outcome_column: Sequence[str]
    clinical: Mapping[str, Sequence[str]]
    """By column name; an absent column was recorded in no row."""
    box: Sequence[tuple[str, ...]]
    film_path: Sequence[str | None]
    lesion_paths: Sequence[tuple[str, ...]]
    finding_id: Sequence[str | None]
    problem: Sequence[str | None]
    is_ragged: Sequence[bool]

    def __post_init__(self) -> None:
        columns = [getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "clinical"]
        if len({len(column) for column in (*columns, *self.clinical.values())}) > 1:
            raise ValueError("Expected columns of one length.")

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def of(cls, rows: Sequence[LesionRow]) -> "LesionRows":
        """Return ``rows`` column by column."""
        names = [field.name for field in dataclasses.fields(cls) if field.name != "clinical"]
        columns = {name: [getattr(row, name) for row in rows] for name in names}
        clinical = dict.fromkeys(column for row in rows for column in row.clinical)
        return cls(**columns, clinical={name: [row.clinical.get(name, "") for row in rows] for name in clinical})
