"""A table as text: the cells of a file under canonical column names; what they mean is checked elsewhere."""

import csv
import dataclasses
import io
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from client.data.tables.dialect import separator, without_declaration
from client.data.tables.text_encoding import decode
from shared_model.errors import TableError
from shared_model.system.peer_text import peer_text
from shared_model.system.sentences import nearest

_MAX_CELL = 2**30
_MAX_SHOWN = 5
_AS_TEXT = re.compile(r'="([^"]*)"')
"""How programs keep a spreadsheet from taking ``00012`` for a number: ``="00012"``."""
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


def _as_text(cell: str) -> str:
    found = _AS_TEXT.fullmatch(cell)
    return cell if found is None else found[1]


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """The cells of one file as text; a column is called by its name in lower case with underscores."""

    source: str
    """Name of the file."""
    cells: Mapping[str, Sequence[str]]
    """Columns by name, all of one length."""
    numbers: Sequence[int]
    """Of every row its number in the file: 1 is the row below the header, and rows without content count."""
    problems: Mapping[int, str] = dataclasses.field(default_factory=dict)
    """Why rows, by position from 0, cannot be used: nobody knows which cell belongs where, so all theirs are empty."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.cells)

    @cached_property
    def rows(self) -> tuple[Mapping[str, str], ...]:
        """The cells of every row by column name."""
        names = self.columns
        return tuple(dict(zip(names, cells, strict=True)) for cells in zip(*self.cells.values(), strict=True))

    @classmethod
    def from_cells(cls, source: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> "TextTable":
        """Return the cells under canonical column names.

        A row without any content is none. Columns without a name are left out, and so are cells beyond the header that
        are empty; a row that is longer or shorter for another reason is a problem.

        Raises:
            TableError: two columns have the same name.
        """
        # A header without a visible difference is the one that is meant.
        names = [folded("".join(c for c in name if c.isprintable() or c.isspace())).lower() for name in header]
        while names and not names[-1]:
            names.pop()
        if repeated := [name for name, count in Counter(names).items() if count > 1 and name]:
            raise TableError(f"Expected {source} to have column {repeated[0]!r} once.")
        width, kept, numbers, problems = len(names), list[Sequence[str]](), list[int](), dict[int, str]()
        for number, cells in enumerate(rows, start=1):
            if not any(map(str.strip, cells)):
                continue
            if len(cells) != width:
                cells = cells[:width] if not any(map(str.strip, cells[width:])) else cells  # noqa: PLW2901
            if len(cells) != width:
                problems[len(kept)] = f"Expected {width} cells in the row, got {len(cells)}."
                cells = ("",) * width  # noqa: PLW2901
            kept.append(cells)
            numbers.append(number)
        columns = zip(*kept, strict=True) if kept else ((),) * width
        named = {name: column for name, column in zip(names, columns, strict=True) if name}
        return cls(source=source, cells=named, numbers=numbers, problems=problems)

    @classmethod
    def load(cls, path: Path) -> "TextTable":
        """Read a text file with a header: cells between commas, semicolons, tabs or bars, and in quotes where needed.

        Encodings are told apart as ``text_encoding.decode`` says; cells may contain line breaks.

        Raises:
            TableError: the file is missing, empty, no text, or no well-formed table.
        """
        # For the process; the default, 128 KiB, would let one long remark stop the whole table.
        csv.field_size_limit(_MAX_CELL)
        try:
            text, declared = without_declaration(decode(path.read_bytes()))
            lines = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=declared or separator(text))
            # Most cells are repeated many times, and then stand in memory once.
            rows = [list(map(sys.intern, cells)) for cells in lines]
            if '="' in text:
                rows = [list(map(_as_text, cells)) for cells in rows]
        except (OSError, csv.Error, TableError) as error:
            raise TableError(f"Expected a readable CSV file {path.name}: {error}.") from error
        start = next((number for number, cells in enumerate(rows) if any(map(str.strip, cells))), None)
        if start is None:
            raise TableError(f"Expected a header in {path.name}, got an empty file.")
        return cls.from_cells(path.name, rows[start], itertools.islice(rows, start + 1, None))

    def filled(self, columns: Mapping[str, str]) -> "TextTable":
        """Return the table with the same cell in every row of each of ``columns``, whether or not it has them.

        >>> TextTable.from_cells("a.csv", ["label"], [["0"], ["1"]]).filled({"split": "test"}).rows[1]
        {'label': '1', 'split': 'test'}
        """
        same = {name: (cell,) * len(self.numbers) for name, cell in columns.items()}
        return dataclasses.replace(self, cells={**self.cells, **same})

    @property
    def recorded(self) -> frozenset[str]:
        """The columns in which any row says something."""
        return frozenset(name for name, cells in self.cells.items() if not all(map(is_missing, set(cells))))

    def require_whole(self) -> None:
        """Check that every row has as many cells as the header.

        Raises:
            TableError: naming the first that has not.
        """
        for position, problem in self.problems.items():
            raise TableError(f"Row {self.numbers[position]} of {self.source}: {problem}")

    def require(self, columns: Iterable[str]) -> None:
        """Check that all ``columns`` are there.

        Raises:
            TableError: one is not; the message names a column that is spelt alike.
        """
        wanted = list(columns)
        if absent := [name for name in wanted if name not in self.cells]:
            found = self._first_row() if len(absent) == len(wanted) else ""
            raise TableError(f"Expected {self.source} to have column {', '.join(absent)}{self._hint(absent)}{found}.")

    def _first_row(self) -> str:
        """Return what stands where the names of the columns were looked for."""
        shown = ", ".join(peer_text(name) for name in self.columns[:_MAX_SHOWN]) or "nothing"
        more = ", ..." if len(self.columns) > _MAX_SHOWN else ""
        return f"; the first row must name the columns, between commas, semicolons, tabs or bars, and has {shown}{more}"

    def _hint(self, absent: Iterable[str]) -> str:
        found = {name: nearest(name, self.cells) for name in absent}
        return "".join(f"; is {near} its {name}?" for name, near in found.items() if near)
