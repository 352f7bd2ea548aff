"""Where the image files of CBIS-DDSM lie: one walk over the data root, then a choice among what it found.

A path cell of the official tables reads ``<subject>/<study UID>/<series UID>/000000.dcm``. Only the subject folder and
the series UID of it are to be relied on, and neither's case: classic downloads keep the folders and rename the files to
``1-1.dcm``; newer ones write ``manifest-<n>/CBIS-DDSM/<subject>/<date>-DDSM-<n>/1.000000-<description>-<n>/1-1.dcm``;
idc-index writes ``<subject>/<study UID>/MG_<series UID>/<instance UID>.dcm``, or a folder for every series; a copy in
JPEG has ``jpeg/<series UID>/1-1.jpg``. Crop and mask may be swapped. So a cell never opens a file by its name. It only
selects among the files that the walk found.
"""

import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from client.data.tables.cells import LEAVES_ROOT
from client.data.tables.image_lookup import NO_IMAGE_FILE
from shared_model.errors import TableError

MAX_DEPTH = 4
"""Levels of folders below the data root where subjects and series are looked for."""
_FOLDERS_ABOVE_FILE = 2
_ENDINGS = (".dcm", ".jpg", ".jpeg")
"""In the order in which they are preferred: a download may hold previews beside its DICOM files."""


@dataclass(frozen=True, kw_only=True)
class SubjectFiles:
    """The image files of one folder of a subject or series."""

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


@dataclass(frozen=True, kw_only=True)
class ImageIndex:
    """The files of all subjects and series that were found under a data root."""

    root: Path
    num_subjects: int
    """That were looked for."""
    files: Mapping[str, SubjectFiles]
    """By the folded name of a subject folder or series; one without a folder is absent."""
    num_found: int
    """Of the subjects that were looked for, how many have a folder."""

    def missing(self, cell: PurePosixPath | None, what: str = "") -> TableError:
        """Return the error of a cell of which no file was found: what was looked for, where and how deep."""
        looked_for = (
            "the table names none" if cell is None else f"no folder {subject_folder(cell)!r}, or no image in it,"
        )
        return TableError(
            f"{NO_IMAGE_FILE}: {what}{looked_for} in {self.root} and {MAX_DEPTH} levels of folders below, where "
            f"{self.num_found} of {self.num_subjects} subject folders were found"
        )


def index_images(root: Path, cells: Iterable[PurePosixPath]) -> ImageIndex:
    """Find the image files of the subjects and series that path ``cells`` name, in one walk.

    Their folders lie in ``root`` or up to ``MAX_DEPTH`` levels down; the files of one that lies in several places are
    joined. A folder with the name of a subject or series is searched whole. A name that is both a subject's and a
    folder's with subjects in it hides none of them.

    Raises:
        TableError: the data root, or a folder in it that is no subject's, cannot be listed.
    """
    real_root, paths = root.resolve(), set(cells)
    subjects = {subject_folder(path).casefold() for path in paths}
    wanted = subjects | {_series(path) for path in paths} - {""}
    files: dict[str, SubjectFiles] = {}
    level = _listed(root, real_root)
    for depth in range(1, MAX_DEPTH + 1):
        below: list[os.DirEntry[str]] = []
        for entry in level:
            children = _add(entry, wanted, files, real_root)
            if children is None and depth < MAX_DEPTH and not entry.is_symlink():
                below += _listed(root, entry.path)
            for child in children or ():
                _add(child, subjects, files, real_root)
        level = below
    return ImageIndex(root=root, num_subjects=len(subjects), files=files, num_found=len(subjects & files.keys()))


def _add(
    entry: os.DirEntry[str], wanted: Container[str], files: dict[str, SubjectFiles], root: Path
) -> list[os.DirEntry[str]] | None:
    """Add the files of a folder that is ``wanted`` and return the folders right in it; None for another folder."""
    name = _wanted_name(entry.name, wanted)
    if name is None:
        return None
    found, children = _subject_files(entry, root)
    files[name] = files.get(name, SubjectFiles()).joined(found)
    return children


def _wanted_name(folder: str, wanted: Container[str]) -> str | None:
    """Return the name of the subject or series of a folder; idc-index writes the modality before a series UID."""
    name = folder.casefold()
    return next((candidate for candidate in (name, name.rpartition("_")[2]) if candidate in wanted), None)


def _series(path: PurePosixPath) -> str:
    """Return the series UID of a path cell; empty where it names none."""
    return path.parts[-2].casefold() if len(path.parts) > _FOLDERS_ABOVE_FILE else ""


def _listed(root: Path, folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        return _folders(folder)
    except OSError as error:
        raise TableError(f"Expected a readable data root {root}: {error}.") from error


def subject_folder(path: PurePosixPath | None) -> str:
    """Return the subject folder that a path cell names; empty for an empty cell.

    >>> subject_folder(PurePosixPath("Mass-Training_P_00001_LEFT_CC/1.3.6/1.3.9/000000.dcm"))
    'Mass-Training_P_00001_LEFT_CC'
    """
    return path.parts[0] if path else ""


def select_files(path: PurePosixPath | None, index: ImageIndex) -> tuple[str, ...]:
    """Return the files of the cell's series, or of its whole subject where no folder has the series' name.

    Raises:
        TableError: a link in the subject folder leaves the data root, or a folder in it cannot be listed.
    """
    if path is None:
        return ()
    series = _series(path)
    files = index.files.get(subject_folder(path).casefold(), index.files.get(series, SubjectFiles()))
    if files.leaves_root:
        raise TableError(LEAVES_ROOT)
    if files.is_unreadable:
        raise TableError("image folder cannot be listed")
    return tuple(file for file in files.paths if series and _is_of(file, series)) or files.paths


def _is_of(file: str, series: str) -> bool:
    return any(_wanted_name(part, {series}) for part in PurePosixPath(file).parts[:-1])


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
                elif entry.name.lower().endswith(_ENDINGS) and entry.is_file():
                    paths.append(Path(entry.path).relative_to(root).as_posix())
    dicom = [path for path in paths if path.lower().endswith(_ENDINGS[0])]
    return SubjectFiles(paths=tuple(sorted(dicom or paths)), leaves_root=leaves_root)


def _is_inside(path: str, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)
