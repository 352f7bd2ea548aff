"""A table as text: the cells of a file under canonical column names; what they mean is checked elsewhere."""

import csv
import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared_model.errors import TableError

_MAX_CELL = 2**30
_MISSING_CELLS = frozenset({"", "NA", "N/A", "NAN", "<NA>", "NULL"})


def is_missing(cell: str) -> bool:
    """Return whether a cell is empty or spells "not recorded", in whatever column.

    >>> [is_missing(cell) for cell in ("", " n/a ", "0")]
    [True, True, False]
    """
    return cell.strip().upper() in _MISSING_CELLS


def folded(text: str) -> str:
    """Return ``text`` in upper case with one underscore for space, underscores and hyphens: for comparisons.

    >>> folded(" ill-defined ")
    'ILL_DEFINED'
    """
    return re.sub(r"[\s_\-]+", "_", text.strip()).upper()


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """The cells of one file as text; a column is called by its name in lower case with underscores."""

    source: str
    """Name of the file."""
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    """Cells by column name."""
    problems: Mapping[int, str] = dataclasses.field(default_factory=dict)
    """Why rows, by number from 1, cannot be used: nobody knows which cell belongs where, so all theirs are empty."""

    @classmethod
    def from_cells(cls, source: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> "TextTable":
        """Return the cells under canonical column names; a row longer or shorter than the header is a problem.

        Raises:
            TableError: two columns have the same name.
        """
        columns = tuple(folded(name).lower() for name in header)
        if repeated := [name for name, count in Counter(columns).items() if count > 1]:
            raise TableError(f"Expected {source} to have column {repeated[0]!r} once.")
        cells_by_column, problems = [], {}
        for number, cells in enumerate(rows, start=1):
            is_whole = len(cells) == len(columns)
            if not is_whole:
                problems[number] = f"Expected {len(columns)} cells in the row, got {len(cells)}."
            cells_by_column.append(dict(zip(columns, cells if is_whole else [""] * len(columns), strict=True)))
        return cls(source=source, columns=columns, rows=tuple(cells_by_column), problems=problems)

    @classmethod
    def load(cls, path: Path) -> "TextTable":
        """Read a UTF-8 CSV file with a header; cells may contain line breaks, blank lines do not count as rows.

        Raises:
            TableError: the file is missing, empty, not UTF-8, or no well-formed CSV.
        """
        # For the process; the default, 128 KiB, would let one long remark stop the whole table.
        csv.field_size_limit(_MAX_CELL)
        try:
            with path.open(encoding="utf-8-sig", newline="") as lines:
                header, *rows = [cells for cells in csv.reader(lines, strict=True) if cells] or [[]]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise TableError(f"Expected a readable CSV file {path.name}: {error}.") from error
        if not header:
            raise TableError(f"Expected a header in {path.name}, got an empty file.")
        return cls.from_cells(path.name, header, rows)

    def filled(self, columns: Mapping[str, str]) -> "TextTable":
        """Return the table with the same cell in every row of each of ``columns``, whether or not it has them.

        >>> TextTable.from_cells("a.csv", ["label"], [["0"], ["1"]]).filled({"split": "test"}).rows[1]
        {'label': '1', 'split': 'test'}
        """
        return dataclasses.replace(
            self,
            columns=tuple(dict.fromkeys((*self.columns, *columns))),
            rows=tuple({**cells, **columns} for cells in self.rows),
        )

    @property
    def recorded(self) -> frozenset[str]:
        """The columns in which any row says something."""
        return frozenset(name for name in self.columns if not all(is_missing(cells[name]) for cells in self.rows))

    def require_whole(self) -> None:
        """Check that every row has as many cells as the header.

        Raises:
            TableError: naming the first that has not.
        """
        for number, problem in self.problems.items():
            raise TableError(f"Row {number} of {self.source}: {problem}")

    def require(self, columns: Iterable[str]) -> None:
        """Check that all ``columns`` are there.

        Raises:
            TableError: one is not.
        """
        if absent := [name for name in columns if name not in self.columns]:
            raise TableError(f"Expected {self.source} to have column {', '.join(absent)}.")
