"""A lock on a file that names its holder, for a folder in which one process at a time may work.

The kernel drops the lock with the process that holds it, so that a crash leaves none behind.
"""

import fcntl
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from shared_model.errors import ConfigError
from shared_model.system.files import is_still_at

_MAX_HOLDER_BYTES = 200


class ProcessLock:
    """A lock that is held until ``release``, the end of a ``with`` block, or the end of the process."""

    def __init__(self, path: Path, file: int) -> None:
        """Keep a file that ``take`` has locked."""
        self._path = path
        self._file: int | None = file

    @classmethod
    def take(cls, path: Path) -> Self:
        """Lock the file at ``path``, which is created if need be with its folder, and write the holder's name into it.

        Two threads of one process exclude each other as two processes do.

        Raises:
            ConfigError: somebody holds it; the message says who and since when.
            OSError: the file cannot be opened or written.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _lock(file, path)
                if is_still_at(file, path):
                    _write_holder(file)
                    return cls(path, file)
            except BaseException:
                os.close(file)
                raise
            # The holder has removed the file between our opening and our locking it.
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Remove the file and let others in; a second call does nothing."""
        if self._file is not None:
            file, self._file = self._file, None
            self._path.unlink(missing_ok=True)
            os.close(file)


def holder_of(path: Path) -> str | None:
    """Return who holds the lock at ``path``, and since when; None where nobody does, or where there is no lock.

    Raises:
        OSError: the lock cannot be read.
    """
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        # Shared, and given back at once: a process that starts in this moment is refused and can start again.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(file)
    finally:
        os.close(file)
    return None


def is_this_process(holder: str) -> bool:
    """Return whether ``holder``, as ``holder_of`` gives it, is this process."""
    return holder.startswith(f"{_own_name()} since ")


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _read_holder(file)
        raise ConfigError(
            f"Expected one process at a time in {path.parent}: {holder} works there. Wait until it ends, or stop it."
        ) from None


def _write_holder(file: int) -> None:
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    os.ftruncate(file, 0)
    os.pwrite(file, f"{_own_name()} since {since}\n".encode(), 0)


def _read_holder(file: int) -> str:
    # It may not have written its name yet.
    return os.pread(file, _MAX_HOLDER_BYTES, 0).decode(errors="replace").strip() or "another process"


def _own_name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
