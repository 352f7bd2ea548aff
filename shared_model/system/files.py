"""Atomic writes: after a crash a file holds its old content or its new content, never a part."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` under a temporary name, flush it to disk and rename it.

    Only the owner may read the file, because most of what a site writes concerns patients.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        flush_folder(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Write the folder's entries to disk, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def owner_only() -> Iterator[None]:
    """Let only the owner read and write what this process makes inside the block, and no umask keep the owner out.

    Other threads' files are made in the same way meanwhile.
    """
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
