"""Where the tables of CBIS-DDSM lie in a data root: in it, or in a folder ``csv`` as in its copy in JPEG."""

import os
from pathlib import Path

_FOLDER, _TABLE = "csv", ".csv"


def find_table(root: Path, name: str) -> Path:
    """Return the file called ``name``, in whatever case; ``root / name`` where there is none."""
    for folder in table_folders(root):
        for found in _names(folder, ending=name[-len(_TABLE) :].lower()):
            if found.casefold() == name.casefold() and (folder / found).is_file():
                return folder / found
    return root / name


def table_folders(root: Path) -> list[Path]:
    """Return the folders where tables are looked for, of which the root may not exist."""
    return [root, *_inner_folders(root, _names(root, ending=_FOLDER))]


def table_files(root: Path) -> list[Path]:
    """Return the CSV files in these folders, in order, none of a folder that cannot be listed."""
    names = _names(root, ending=_FOLDER)
    listed = {root: names, **{inner: _names(inner, ending=_FOLDER) for inner in _inner_folders(root, names)}}
    return [folder / name for folder, found in listed.items() for name in found if name[-4:].lower() == _TABLE]


def _inner_folders(root: Path, names: list[str]) -> list[Path]:
    return [folder for folder in (root / name for name in names if name.lower() == _FOLDER) if folder.is_dir()]


def _names(folder: Path, *, ending: str) -> list[str]:
    """Return the names in ``folder`` with an ending of small letters, whatever their case, sorted."""
    try:
        with os.scandir(folder) as entries:
            # Every request asks, of a folder with thousands of images: no path objects, no patterns, and one look.
            return sorted([entry.name for entry in entries if entry.name[-len(ending) :].lower() == ending])
    except OSError:
        # A share that is away; whoever reads the tables says so.
        return []
