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
    is_unreadable: bool = False
    """Whether a folder in it cannot be listed."""

    def joined(self, other: "SubjectFiles") -> "SubjectFiles":
        """Return the files of a subject that lies in two places."""
        return SubjectFiles(
            paths=tuple(sorted({*self.paths, *other.paths})),
            leaves_root=self.leaves_root or other.leaves_root,
            is_unreadable=self.is_unreadable or other.is_unreadable,
        )


def index_subjects(root: Path, subjects: frozenset[str]) -> dict[str, SubjectFiles]:
    """Find the DICOM files of all ``subjects`` in one walk.

    The subject folders lie in ``root`` or one level down, as in ``root/CBIS-DDSM``; the files of a subject that lies in
    several places are joined. Other folders are not entered deeper than needed to see that. A name that is both a
    subject's and a folder's with subjects in it hides none of them.

    Returns:
        Files by subject; a subject without a folder is absent.

    Raises:
        TableError: the data root, or a folder in it that is no subject's, cannot be listed.
    """
    real_root = root.resolve()
    index: dict[str, SubjectFiles] = {}
    try:
        for entry in _folders(real_root):
            if entry.name in subjects:
                files, children = _subject_files(entry, real_root)
                index[entry.name] = index.get(entry.name, SubjectFiles()).joined(files)
            else:
                children = [] if entry.is_symlink() else _folders(entry.path)
            for child in children:
                if child.name in subjects:
                    files, _ = _subject_files(child, real_root)
                    index[child.name] = index.get(child.name, SubjectFiles()).joined(files)
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
        TableError: a link in the subject folder leaves the data root, or a folder in it cannot be listed.
    """
    files = index.get(subject_folder(path), SubjectFiles())
    if files.leaves_root:
        raise TableError(LEAVES_ROOT)
    if files.is_unreadable:
        raise TableError("image folder cannot be listed")
    if path is None or len(path.parts) <= _FOLDERS_ABOVE_FILE:
        return files.paths
    series = path.parts[-2]
    return tuple(file for file in files.paths if series in PurePosixPath(file).parts[:-1]) or files.paths


def _folders(path: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return [entry for entry in entries if Path(entry.path).is_dir()]


def _subject_files(folder: os.DirEntry[str], root: Path) -> tuple[SubjectFiles, list[os.DirEntry[str]]]:
    """Return the files below a subject's folder and the folders right in it.

    What cannot be listed there is that subject's problem alone.
    """
    if folder.is_symlink() and not _is_inside(folder.path, root):
        return SubjectFiles(leaves_root=True), []
    children: list[os.DirEntry[str]] = []
    try:
        return _walk(folder, root, children), children
    except OSError:
        return SubjectFiles(is_unreadable=True), children


def _walk(folder: os.DirEntry[str], root: Path, children: list[os.DirEntry[str]]) -> SubjectFiles:
    """Return the files below ``folder``; add the folders right in it to ``children``."""
    paths, leaves_root, pending, followed = [], False, [folder.path], set[str]()
    while pending:
        with os.scandir(where := pending.pop()) as entries:
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
                    if where == folder.path and not entry.is_symlink():
                        children.append(entry)
                elif entry.name.lower().endswith(".dcm") and entry.is_file():
                    paths.append(Path(entry.path).relative_to(root).as_posix())
    return SubjectFiles(paths=tuple(sorted(paths)), leaves_root=leaves_root)


def _is_inside(path: str, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)
