"""Atomic writes: after a crash a file holds its old content or its new content, never a part.

Content is written under a temporary name first. A writer that was killed leaves that file behind; as the kernel drops
the lock on it with the process, the next one knows it for abandoned and removes it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PARTIAL = ".partial"


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` under a temporary name, flush it to disk and rename it.

    Only the owner may read the file, because most of what a site writes concerns patients. What killed writers of
    ``path`` have left is removed.

    Raises:
        OSError: it cannot be written, for instance as the disk is full; the error names ``path``, and the content
            before, if there was any, is still there.
    """
    write_parts_atomically(path, (content,))


def write_parts_atomically(path: Path, parts: Iterable[bytes]) -> None:
    """Write ``parts`` one after another as ``write_atomically`` does, for files that need not fit the memory.

    Raises:
        OSError: as ``write_atomically``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, path.name)
    handle, temporary = _begin(path)
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
            # Renamed while it is held: nobody may take it for abandoned.
            temporary.replace(path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the block say which file it is about: the system names none where a write fails."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def partial_folder(path: Path) -> Path:
    """Return the name under which this process may fill a folder that is to become ``path``; see ``held``."""
    return path.parent / f".{path.name}.{os.getpid()}{_PARTIAL}"


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove what writers that were killed left in ``folder``, of all files or of ``name`` alone.

    What a living process holds stays, and so does everything where the file system has no locks.
    """
    begin = "." if name is None else f".{name}."
    with os.scandir(folder) as entries:
        found = [Path(entry) for entry in entries if entry.name.startswith(begin) and entry.name.endswith(_PARTIAL)]
    for path in found:
        with suppress(OSError):
            _remove_if_abandoned(path)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file or folder inside the block, so that it is not taken for abandoned."""
    handle = os.open(path, os.O_RDONLY)
    try:
        _hold(handle)
        yield
    finally:
        os.close(handle)


def is_still_at(handle: int, path: Path) -> bool:
    """Return whether the open file ``handle`` is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


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


def _begin(path: Path) -> tuple[int, Path]:
    """Return a new temporary file beside ``path``, which this process holds."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PARTIAL)
        _hold(handle)
        if is_still_at(handle, Path(name)):
            return handle, Path(name)
        # Another writer took it for abandoned between its making and its locking.
        os.close(handle)


def _hold(handle: int) -> None:
    # A file system without locks keeps what is abandoned.
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)


def _remove_if_abandoned(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_still_at(handle, path):
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(handle)
