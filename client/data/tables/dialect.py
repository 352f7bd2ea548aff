"""What separates the cells of a text table: told by its header alone, never by a patient's row."""

import csv
import io

_SEPARATORS = ",;\t|"
"""In the order in which they are preferred."""
_LONGEST_HEADER = 2**16
_DECLARATION = "sep="
"""A spreadsheet's first line ``sep=;`` says it."""


def without_declaration(text: str) -> tuple[str, str | None]:
    r"""Return the text after a first line that declares the separator, and that separator; None where there is none.

    >>> without_declaration("sep=;\na;b")
    ('a;b', ';')
    """
    line, _, rest = text.partition("\n")
    declared = line.strip("\r\"'")
    if declared[: len(_DECLARATION)].lower() == _DECLARATION and len(declared) == len(_DECLARATION) + 1:
        return rest, declared[-1]
    return text, None


def separator(text: str) -> str:
    r"""Return the separator that cuts the first line that is not empty into the most cells; a comma for one cell.

    >>> separator("a;b;c,d\n1;2;3,5")
    ';'
    """
    return max(_SEPARATORS, key=lambda candidate: len(_header(text, candidate)))


def _header(text: str, candidate: str) -> list[str]:
    start = io.StringIO(text[:_LONGEST_HEADER], newline="")
    try:
        return next((cells for cells in csv.reader(start, delimiter=candidate) if cells), [])
    except csv.Error:
        return []
