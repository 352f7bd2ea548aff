"""Tables of text: printed on the terminal, and as Markdown and CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

MISSING = "-"


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A header, and lines with a cell for each of its titles."""

    header: Sequence[str]
    lines: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        r"""Return the table as Markdown.

        >>> TextTable(header=["run", "AUC"], lines=[["a", "0.5"]]).to_markdown()
        '| run | AUC |\n| --- | --- |\n| a | 0.5 |\n'
        """
        rows = [self.header, ["---"] * len(self.header), *self.lines]
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)

    def to_csv(self) -> str:
        r"""Return the table as CSV, with commas and line feeds.

        >>> TextTable(header=["run", "AUC"], lines=[["a, b", "0.5"]]).to_csv()
        'run,AUC\n"a, b",0.5\n'
        """
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([self.header, *self.lines])
        return stream.getvalue()


def print_table(console: Console, title: str, table: TextTable) -> None:
    """Print one table; what does not fit a line is folded."""
    printed = Table(title=title)
    for name in table.header:
        printed.add_column(name, overflow="fold")
    for line in table.lines:
        printed.add_row(*line)
    console.print(printed)


def spread(mean: float | None, deviation: float | None) -> str:
    """Return mean and standard deviation as text.

    >>> spread(0.8, 0.0125), spread(0.8, None), spread(None, None)
    ('0.800 ± 0.013', '0.800', '-')
    """
    if mean is None:
        return MISSING
    return f"{mean:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")
