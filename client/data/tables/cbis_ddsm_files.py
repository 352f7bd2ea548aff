"""Where the DICOM files of CBIS-DDSM lie: one walk over the data root, then a choice among what it found.

A path cell of the official tables reads ``<subject>/<study UID>/<series UID>/000000.dcm``. Only the subject folder of
it is to be relied on: classic downloads keep the folders and rename the files to ``1-1.dcm``, newer ones write
``<subject>/<date>-DDSM-<n>/1.000000-<description>-<n>/1-1.dcm``, and crop and mask may be swapped. So a cell never
opens a file by its name. It only selects among the files that the walk found.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from client.data.tables.cells import LEAVES_ROOT
from shared_model.errors import TableError

_FOLDERS_ABOVE_FILE = 2


@dataclass(frozen=True, kw_only=True)
class SubjectFiles:
    """The DICOM files of one subject folder."""

    paths: tuple[str, ...] = ()
    """Relative to the data root, sorted."""
    leaves_root: bool = False
    """Whether a symbolic link below the folder points out of the data root; such a link is never followed."""


def index_subjects(root: Path, subjects: frozenset[str]) -> dict[str, SubjectFiles]:
    """Find the DICOM files of all ``subjects`` in one walk.

    The subject folders lie in ``root`` or one level down, as in ``root/CBIS-DDSM``; the files of a subject that lies in
    several places are joined. Other folders are not entered deeper than needed to see that.

    Returns:
        Files by subject; a subject without a folder is absent.

    Raises:
        TableError: a folder cannot be listed.
    """
    real_root = root.resolve()
    index: dict[str, SubjectFiles] = {}
    try:
        top = _folders(real_root)
        deeper = [entry for entry in top if entry.name not in subjects and not entry.is_symlink()]
        for entry in top + [child for folder in deeper for child in _folders(folder.path)]:
            if entry.name in subjects:
                files, before = _subject_files(entry, real_root), index.get(entry.name, SubjectFiles())
                index[entry.name] = SubjectFiles(
                    paths=tuple(sorted({*before.paths, *files.paths})),
                    leaves_root=before.leaves_root or files.leaves_root,
                )
    except OSError as error:
        raise TableError(f"Expected a readable data root {root}: {error}.") from error
    return index


def subject_folder(path: PurePosixPath | None) -> str:
    """Return the subject folder that a path cell names; empty for an empty cell.

    >>> subject_folder(PurePosixPath("Mass-Training_P_00001_LEFT_CC/1.3.6/1.3.9/000000.dcm"))
    'Mass-Training_P_00001_LEFT_CC'
    """
    return path.parts[0] if path else ""


def select_files(path: PurePosixPath | None, index: Mapping[str, SubjectFiles]) -> tuple[str, ...]:
    """Return the files of the cell's series, or of its whole subject where no folder has the series' name.

    Raises:
        TableError: a link in the subject folder leaves the data root.
    """
    files = index.get(subject_folder(path), SubjectFiles())
    if files.leaves_root:
        raise TableError(LEAVES_ROOT)
    if path is None or len(path.parts) <= _FOLDERS_ABOVE_FILE:
        return files.paths
    series = path.parts[-2]
    return tuple(file for file in files.paths if series in PurePosixPath(file).parts[:-1]) or files.paths


def _folders(path: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return [entry for entry in entries if Path(entry.path).is_dir()]


def _subject_files(folder: os.DirEntry[str], root: Path) -> SubjectFiles:
    if folder.is_symlink() and not _is_inside(folder.path, root):
        return SubjectFiles(leaves_root=True)
    paths, leaves_root, pending, followed = [], False, [folder.path], set[str]()
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    # A link within the root is followed once, so that links in a circle come to an end.
                    target = os.path.realpath(entry.path)
                    leaves_root |= not _is_inside(target, root)
                    if target in followed or not _is_inside(target, root) or not Path(target).exists():
                        continue
                    followed.add(target)
                if entry.is_dir():
                    pending.append(entry.path)
                elif entry.name.lower().endswith(".dcm") and entry.is_file():
                    paths.append(Path(entry.path).relative_to(root).as_posix())
    return SubjectFiles(paths=tuple(sorted(paths)), leaves_root=leaves_root)


def _is_inside(path: str, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)
