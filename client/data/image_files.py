"""Image files, opened: regular, of bounded size, and nothing that a reader would wait for."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from shared_model.errors import DicomError

MAX_SIDE = 20_000
"""Largest accepted number of rows or columns; the largest films of CBIS-DDSM have about 7,000."""
MAX_PIXELS = 100_000_000
"""Largest accepted number of pixels: three times the largest film, prepared in some 2 GiB."""
MAX_FILE_BYTES = 2**28
"""Largest accepted file: the most pixels of 16 bits, uncompressed, and room for what stands beside them."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


@contextmanager
def open_image(path: Path) -> Iterator[BinaryIO]:
    """Open a file that may be an image, for reading.

    Raises:
        OSError: it is not there or may not be read.
        DicomError: it is no regular file, is empty, or is too large for an image.
    """
    # Opening a pipe would wait for its other end, and a device may do anything when it is opened.
    require_image_file(path, path.stat())
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        require_image_file(path, os.fstat(handle))
        yield file


def require_image_file(path: Path, status: os.stat_result) -> None:
    """Check by ``status`` that ``path`` is a regular file of a size that an image may have.

    Raises:
        DicomError: it is not.
    """
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise DicomError(f"{path}: Expected a file, got {_KINDS.get(kind, 'something else')}.")
    if status.st_size == 0:
        raise DicomError(f"{path}: Expected an image, got an empty file (0 bytes); copy or export it again.")
    if status.st_size > MAX_FILE_BYTES:
        raise DicomError(f"{path}: Expected file size={status.st_size} <= {MAX_FILE_BYTES} bytes.")


def require_size(rows: int, columns: int) -> None:
    """Check an image's claimed size before anything of it is decoded.

    Raises:
        DicomError: it has no pixel, or more than are accepted.
    """
    if not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE):
        raise DicomError(f"Expected width={columns} and height={rows} in [1, {MAX_SIDE}].")
    if rows * columns > MAX_PIXELS:
        raise DicomError(f"Expected rows={rows} x columns={columns} <= {MAX_PIXELS} pixels.")


def unreadable(path: Path, error: OSError) -> DicomError:
    """Return the refusal of a file that the system does not let us read."""
    reason = os.strerror(error.errno or errno.EIO)
    return DicomError(f"{path}: Expected a readable file: {reason}.")
