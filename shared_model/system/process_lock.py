"""A lock on a file that names its holder, for a folder in which one process at a time may work.

The kernel drops the lock with the process that holds it, so that a crash leaves none behind.
"""

import fcntl
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from shared_model.errors import ConfigError

_MAX_HOLDER_BYTES = 200


class ProcessLock:
    """A lock that is held until ``release`` or the end of the process."""

    def __init__(self, path: Path, file: int) -> None:
        """Keep a file that ``take`` has locked."""
        self._path = path
        self._file: int | None = file

    @classmethod
    def take(cls, path: Path) -> Self:
        """Lock the file at ``path``, which is created if need be, and write the holder's name into it.

        Two threads of one process exclude each other as two processes do.

        Raises:
            ConfigError: somebody holds it; the message says who and since when.
            OSError: the file cannot be opened or written.
        """
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _lock(file, path)
                if _is_still_at(file, path):
                    _write_holder(file)
                    return cls(path, file)
            except BaseException:
                os.close(file)
                raise
            # The holder has removed the file between our opening and our locking it.
            os.close(file)

    def release(self) -> None:
        """Remove the file and let others in; a second call does nothing."""
        if self._file is not None:
            file, self._file = self._file, None
            self._path.unlink(missing_ok=True)
            os.close(file)


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, _MAX_HOLDER_BYTES, 0).decode(errors="replace").strip() or "another process"
        raise ConfigError(
            f"Expected one process at a time in {path.parent}: {holder} works there. Wait until it ends, or stop it."
        ) from None


def _is_still_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _write_holder(file: int) -> None:
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    os.ftruncate(file, 0)
    os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
