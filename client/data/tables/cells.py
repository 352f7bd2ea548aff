"""The meaning of one cell of a lesion table: a clinical value, an outcome, a box or a path.

A cell that cannot be understood is an error with its reason; whoever reads it says what that costs its row.
"""

import math
import re
from collections.abc import Container, Iterable, Sequence
from functools import lru_cache
from pathlib import PurePosixPath, PureWindowsPath

from client.data.tables.spellings import OUTCOMES, SPLITS, respelt
from client.data.tables.text_table import folded, is_missing
from shared_model.errors import TableError
from shared_model.vocabulary import ClinicalColumn, Encoding, Pathology, Split

BOX_COLUMNS = ("roi_x", "roi_y", "roi_w", "roi_h")
"""Left, top, width and height of the lesion's box in pixels of the image it belongs to; (0, 0) is the top left."""
LEAVES_ROOT = "path leaves the data root"

_NUMBER = re.compile(r"[+-]?[0-9]{1,9}([.,][0-9]{0,18})?")
"""A comma inside one number can only be a decimal comma: who writes thousands has three digits after it, and no value
here reaches a thousand but the pixels of a box, which are whole."""
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,9},[0-9]{3}")
_SEPARATORS = re.compile(r"[,;/|+]")
_LONGEST_LISTING = 20
_LONGEST_QUOTE = 40


_BOX_NUMBER = re.compile(r"[0-9]{1,9}")
"""Other characters count as digits too, and longer numbers fit no image."""


def _by_folded(values: Iterable[str]) -> dict[str, str]:
    return {folded(value): value for value in values}


def unexpected(name: str, cell: str, values: Sequence[str]) -> TableError:
    """Return the error of a cell of column ``name`` that is none of ``values``, in their order."""
    bounds = (
        f"in [{values[0]}, {values[-1]}]" if len(values) > _LONGEST_LISTING else "to be one of " + ", ".join(values)
    )
    return TableError(f"Expected {name}={cell[:_LONGEST_QUOTE]!r} {bounds}.")


def _whole_number(text: str, *, floor: bool = False) -> str:
    """Return ``"3"`` for ``"3"``, ``" 03 "``, ``"3.0"`` and ``"3,0"``; any other text comes back stripped."""
    text = text.strip()
    if not _NUMBER.fullmatch(text) or _THOUSANDS.fullmatch(text):
        return text
    number = float(text.replace(",", "."))
    return str(math.floor(number)) if floor or number.is_integer() else text


@lru_cache(maxsize=4096)
def parse_clinical_cell(column: ClinicalColumn, cell: str) -> str | None:
    """Return the canonical value of one cell, or ``None`` where nothing was recorded.

    Case, surrounding space, and space, underscore or hyphen inside a value do not matter; other spellings with one
    meaning are those of ``spellings``. A hyphen, comma, semicolon, bar, plus or slash joins several values of a
    multi-hot column, which come back in the vocabulary's order without repeats, so that ``OVAL-ROUND`` and
    ``ROUND/OVAL`` are the same. A whole number may be written ``3.0`` or ``3,0``. An age in years is rounded down.

    Raises:
        TableError: the cell holds a value outside ``column.values``.
    """
    if is_missing(cell):
        return None
    if column.values[0].isdigit():
        number = _whole_number(respelt(column.name, folded(_whole_number(cell))), floor=column.name == "age")
        if number in column.values:
            return number
        if number in column.missing:
            return None
        raise unexpected(column.name, _whole_number(cell, floor=column.name == "age"), column.values)
    known = _by_folded(column.values)
    if column.encoding is Encoding.ORDINAL:
        words = {_word(column, cell)}
    else:
        words = {word for part in _SEPARATORS.split(cell) for word in _words(column, part, known)}
    if not words <= known.keys():
        raise unexpected(column.name, cell, column.values)
    return "-".join(value for key, value in known.items() if key in words)


def _word(column: ClinicalColumn, text: str) -> str:
    return folded(respelt(column.name, folded(text)))


def _words(column: ClinicalColumn, part: str, known: Container[str]) -> set[str]:
    """Return the folded words of a part of a cell; a hyphen stands inside a word, or else between two."""
    whole = _word(column, part)
    return {whole} if whole in known else {_word(column, piece) for piece in part.split("-")}


def parse_outcome(name: str, cell: str) -> tuple[int, Pathology | None]:
    """Return ``(label, pathology)`` of a cell that holds 0, 1, a boolean or a pathology; the last alone has one.

    >>> parse_outcome("label", "1.0"), parse_outcome("label", "False")
    ((1, None), (0, None))

    Raises:
        TableError: the cell, of the column ``name``, is empty or holds anything else.
    """
    number = _whole_number(cell)
    if number in {"0", "1"}:
        return int(number), None
    if folded(cell) in OUTCOMES:
        return OUTCOMES[folded(cell)], None
    known = {folded(pathology): pathology for pathology in Pathology}
    if folded(cell) not in known:
        raise unexpected(name, cell, ("0", "1", *Pathology))
    return known[folded(cell)].label, known[folded(cell)]


def parse_split(cell: str) -> Split:
    """Return the split that a cell names, in any of the spellings of ``spellings.SPLITS``.

    >>> parse_split(" Training ")
    <Split.TRAIN: 'train'>

    Raises:
        TableError: the cell names no split.
    """
    name = folded(cell)
    known = {folded(split): split for split in Split}
    if name not in known and name not in SPLITS:
        raise unexpected("split", cell, tuple(Split))
    return known[name] if name in known else SPLITS[name]


def parse_box(cells: Sequence[str]) -> tuple[int | None, ...]:
    """Return ``(roi_x, roi_y, roi_w, roi_h)``, or four times ``None`` where all cells are empty.

    >>> parse_box(("0", "1.0", "20", "30"))
    (0, 1, 20, 30)

    Raises:
        TableError: some cells but not all are empty, or one is no whole number, or the box has no area.
    """
    if all(is_missing(cell) for cell in cells):
        return (None,) * len(BOX_COLUMNS)
    for name, cell, least in zip(BOX_COLUMNS, cells, (0, 0, 1, 1), strict=True):
        number = _whole_number(cell)
        if _BOX_NUMBER.fullmatch(number) is None or int(number) < least:
            raise TableError(f"Expected {name}={cell[:_LONGEST_QUOTE]!r} to be a whole number >= {least}.")
    return tuple(int(_whole_number(cell)) for cell in cells)


def relative_path(cell: str) -> PurePosixPath | None:
    r"""Return a table's path cell as a relative path, or ``None`` for an empty cell.

    Line breaks, and quotes round the path, are dropped: copies of the official tables have both. Nothing on disk is
    looked at.

    >>> str(relative_path('"folder\\image.dcm\n"'))
    'folder/image.dcm'

    Raises:
        TableError: the path is absolute or contains ``..``.
    """
    text = re.sub(r"[\r\n\t\x00]", "", cell).strip(" \"'").replace("\\", "/")
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(text).drive:
        raise TableError(LEAVES_ROOT)
    return path if path.parts else None
