"""Where the tables of CBIS-DDSM lie in a data root: in it, or in a folder ``csv`` as in its copy in JPEG."""

import os
from pathlib import Path

_FOLDER = "csv"


def find_table(root: Path, name: str) -> Path:
    """Return the file called ``name``, in whatever case; ``root / name`` where there is none."""
    for folder in table_folders(root):
        for path in sorted(folder.iterdir()):
            if path.name.casefold() == name.casefold() and path.is_file():
                return path
    return root / name


def table_folders(root: Path) -> list[Path]:
    """Return the folders where tables are looked for, none where ``root`` cannot be listed."""
    try:
        with os.scandir(root) as entries:
            inner = sorted(entry.path for entry in entries if entry.name.casefold() == _FOLDER and entry.is_dir())
    except OSError:
        return []
    return [root, *map(Path, inner)]
