"""What separates the cells of a text table: told by its header alone, never by a patient's row."""

import csv
import io
import re

_SEPARATORS = ",;\t|"
"""In the order in which they are preferred."""
_LONGEST_HEADER = 2**16
_DECLARATION = "sep="
"""A spreadsheet's first line ``sep=;`` says it."""
_WRITTEN_TAB = r"\t"
_PATIENT = "patient_id"


def without_declaration(text: str) -> tuple[str, str | None]:
    r"""Return the text after a first line that declares the separator, and that separator; None where there is none.

    >>> without_declaration("sep=;\na;b")
    ('a;b', ';')
    """
    line, _, rest = text.partition("\n")
    declared = line.strip("\r\"'")
    start, sign = declared[: len(_DECLARATION)], declared[len(_DECLARATION) :]
    if start.lower() == _DECLARATION and (len(sign) == 1 or sign == _WRITTEN_TAB):
        return rest.lstrip("\ufeff"), "\t" if sign == _WRITTEN_TAB else sign
    return text, None


def separator(text: str) -> str:
    r"""Return the separator that cuts the first line that is not empty into the most cells; a comma for one cell.

    Every table has a column of patients: one that cuts it out comes before those that do not.

    >>> separator("a;b;c,d\n1;2;3,5")
    ';'
    """
    headers = {candidate: _header(text, candidate) for candidate in _SEPARATORS}
    return max(_SEPARATORS, key=lambda candidate: (_names_patients(headers[candidate]), len(headers[candidate])))


def _names_patients(header: list[str]) -> bool:
    return any(re.sub(r"[\W_]+", "_", cell.strip()).lower() == _PATIENT for cell in header)


def _header(text: str, candidate: str) -> list[str]:
    start = io.StringIO(text[:_LONGEST_HEADER], newline="")
    try:
        return next((cells for cells in csv.reader(start, delimiter=candidate) if cells), [])
    except csv.Error:
        return []
