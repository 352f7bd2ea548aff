"""Where the tables of CBIS-DDSM lie in a data root: in it, or in a folder ``csv`` as in its copy in JPEG."""

import os
from pathlib import Path

_FOLDER, _TABLE = "csv", ".csv"


def find_table(root: Path, name: str) -> Path:
    """Return the file called ``name``, in whatever case; ``root / name`` where there is none."""
    for folder in table_folders(root):
        for found in sorted(_names(folder)):
            if found.casefold() == name.casefold() and (folder / found).is_file():
                return folder / found
    return root / name


def table_folders(root: Path) -> list[Path]:
    """Return the folders where tables are looked for, of which the root may not exist."""
    return [root, *_inner_folders(root, _names(root))]


def table_files(root: Path) -> list[Path]:
    """Return the CSV files in these folders, in order, none of a folder that cannot be listed."""
    # Every request asks for them, and among thousands of image folders paths and patterns take ten times as long.
    names = _names(root)
    listed = {root: names, **{folder: _names(folder) for folder in _inner_folders(root, names)}}
    return [
        folder / name
        for folder, found in listed.items()
        for name in sorted(name for name in found if name[-4:].lower() == _TABLE)
    ]


def _inner_folders(root: Path, names: list[str]) -> list[Path]:
    inner = [root / name for name in sorted(name for name in names if name.lower() == _FOLDER)]
    return [folder for folder in inner if folder.is_dir()]


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except OSError:
        # A share that is away; whoever reads the tables says so.
        return []
