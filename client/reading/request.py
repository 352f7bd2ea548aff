"""What is asked of a reader: the pictures of one lesion, and what is known of it in columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from client.data.images import read_image
from client.data.preprocessing import Box
from client.data.tables.cells import parse_clinical_cell
from client.data.tables.text_table import TextTable
from shared_model.errors import ConfigError, TableError
from shared_model.vocabulary import CLINICAL_COLUMNS, View

_MAX_TABLE_BYTES = 2**20
_MAX_CELL = 200
_MAX_PICTURES = 2


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of the lesion."""

    path: Path
    view: View | None = None
    """As whoever asks declares it; None takes what the file says."""
    box: Box | None = None
    """The lesion on a film; None for a crop."""


@dataclass(frozen=True, kw_only=True)
class LesionRequest:
    """One lesion."""

    pictures: tuple[Picture, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    """By name as it was written; an empty cell was not recorded."""


def columns_from(text: str) -> dict[str, str]:
    """Return the columns of ``key=value,key=value``, or of the file of that name: a table with one row.

    Raises:
        ConfigError: it is neither, or a column is named twice.
    """
    table = table_of(text)
    if table is not None:
        return _from_table(table)
    columns: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not name or not equals or name in columns:
            raise ConfigError(f"Expected columns as key=value,key=value, each once, got {part.strip()[:80]!r}.")
        columns[name] = value
    return columns


def table_of(text: str) -> Path | None:
    """Return the file that ``columns_from`` would read; None where the columns stand in the text."""
    return None if "=" in text else Path(text)


def _from_table(path: Path) -> dict[str, str]:
    try:
        # A pipe would be waited for, and a table of one lesion is small.
        if not path.is_file() or path.stat().st_size > _MAX_TABLE_BYTES:
            raise ConfigError(
                f"Expected --columns key=value,... or a table of at most {_MAX_TABLE_BYTES} bytes: {path}."
            )
        table = TextTable.load(path)
        table.require_whole()
    except (OSError, TableError) as error:
        raise ConfigError(f"Expected the columns of one lesion in {path}: {error}") from error
    if len(table.numbers) != 1:
        raise ConfigError(f"Expected one row in {path}, that of the lesion, got {len(table.numbers)}.")
    return dict(table.rows[0])


def parsed_columns(columns: Mapping[str, str], allowed: tuple[str, ...]) -> dict[str, str | None]:
    """Return the canonical value of every column, None where it was not recorded.

    Raises:
        TableError: a column is none of ``allowed``, or a value is not in the vocabulary.
    """
    known = {column.name: column for column in CLINICAL_COLUMNS}
    parsed: dict[str, str | None] = {}
    for name, cell in columns.items():
        if name not in allowed:
            raise TableError(
                f"Expected columns that the release reads ({', '.join(allowed) or 'none'}), got {name[:80]!r}."
            )
        if len(cell) > _MAX_CELL:
            raise TableError(f"Expected {name} of at most {_MAX_CELL} characters, got {len(cell)}.")
        parsed[name] = parse_clinical_cell(known[name], cell)
    return parsed


def pictures_in(folder: Path, boxes: Mapping[View, Box | None]) -> tuple[Picture, ...]:
    """Return the pictures in a folder, which say themselves of which view they are, with their boxes.

    Raises:
        ConfigError: the folder holds none or too many, or one does not say its view.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ConfigError(f"Expected a folder with the pictures of a lesion: {error}") from error
    if not 1 <= len(paths) <= _MAX_PICTURES:
        raise ConfigError(f"Expected one or two pictures and nothing else in {folder}, got {len(paths)} entries.")
    pictures = []
    for path in paths:
        view = read_image(path).view
        if view is None:
            raise ConfigError(f"Expected {path} to say of which view it is; name the files with --cc and --mlo.")
        pictures.append(Picture(path=path, view=view, box=boxes.get(view)))
    return tuple(pictures)
