"""Cells of the CSV files that we write, made harmless for the spreadsheet and the terminal in which they are opened."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

_FORMULA = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def harmless_cell(text: str) -> str:
    r"""Return ``text`` in one printable line that no spreadsheet takes for a formula.

    What does not print (NUL, escape sequences, line breaks) becomes a blank. A quotation mark goes before what would
    begin a formula; a number keeps its sign.

    >>> harmless_cell("=1+1"), harmless_cell("\t@x"), harmless_cell("-0.5"), harmless_cell("a\x1b[2Jb")
    ("'=1+1", "' @x", '-0.5', 'a [2Jb')
    """
    line = "".join(character if character.isprintable() else " " for character in text)
    # Full-width forms of the signs begin a formula in some versions; blanks before them are skipped.
    start = unicodedata.normalize("NFKC", line.lstrip()[:1])
    return f"'{line}" if start in _FORMULA and not _NUMBER.fullmatch(line.strip()) else line


def harmless_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    r"""Return a CSV file in UTF-8; text is made harmless, numbers stand as ``str`` writes them.

    >>> harmless_csv(["a", "b"], [["=1", 2]])
    b"a,b\n'=1,2\n"
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(harmless_cell, header))
    writer.writerows([harmless_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return stream.getvalue().encode("utf-8", "replace")
