"""Where the images of a manifest lie: path cells -> files in the manifest's folder, or the reason why there is none."""

import os
import stat
from pathlib import Path, PurePosixPath

from client.data.tables.cells import LEAVES_ROOT, relative_path
from client.data.tables.text_table import is_missing
from shared_model.errors import TableError

NO_IMAGE_FILE = "no image file"
EMPTY_FILE = "image file is empty (0 bytes)"


class ImageLookup:
    """Files in one folder or below; a folder is resolved once, however many files of it are asked for."""

    def __init__(self, folder: Path, *, needs_file: bool) -> None:
        """Look in ``folder``; whether files are there matters only where one ``needs_file``."""
        self._given, self._folder, self._needs_file = folder.absolute(), folder.resolve(), needs_file
        self._is_inside: dict[str, bool] = {}

    def find(self, cell: str) -> str | None:
        """Return the image's path relative to the folder, or ``None`` where the cell is empty.

        A path from the root of the disk is understood if it leads into the folder.

        Raises:
            TableError: the path leaves the folder, by itself or through a symbolic link; or a file is needed, and there
                is none, or one without content.
        """
        path = relative_path("" if is_missing(cell) else self._within(cell))
        if path is None:
            return None
        target = os.path.join(self._folder, path)  # noqa: PTH118, ten times faster, and there are millions
        try:
            if not self._leads_inside(target, path):
                raise TableError(LEAVES_ROOT)
            if self._needs_file:
                _require_content(target)
        except (OSError, RuntimeError, ValueError) as error:
            # A name that is too long, links in a circle, or no such file.
            raise TableError(f"{NO_IMAGE_FILE}: {str(path)!r} in {self._folder}") from error
        return str(path)

    def _within(self, cell: str) -> str:
        """Return a path from the root of the disk that leads into the folder as one relative to it."""
        text = cell.strip(" \t\r\n\"'")
        for folder in (self._given, self._folder):
            if text.startswith(f"{folder}/"):
                return text[len(f"{folder}/") :]
        return cell

    def _leads_inside(self, target: str, path: PurePosixPath) -> bool:
        above = os.path.dirname(target)  # noqa: PTH120
        if above not in self._is_inside:
            self._is_inside[above] = Path(above).resolve().is_relative_to(self._folder)
        if os.path.islink(target):  # noqa: PTH114
            return (self._folder / path).resolve().is_relative_to(self._folder)
        return self._is_inside[above]


def _require_content(target: str) -> None:
    status = os.stat(target)  # noqa: PTH116
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(target)
    if not status.st_size:
        raise TableError(EMPTY_FILE)
