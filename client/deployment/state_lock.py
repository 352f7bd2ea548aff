"""One process for a site: a lock in its state folder, which the kernel drops when the process ends, however it ends."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shared_model.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds the lock."""

    pid: int | None
    """None where it has not written its name yet."""
    host: str
    since: str

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return "another" if self.pid is None else f"process {self.pid} on {self.host}, since {self.since},"


def holder_of(folder: Path) -> Holder | None:
    """Return who holds the lock of ``folder``; None where nobody does, or where there is no lock yet.

    Raises:
        OSError: the lock cannot be read.
    """
    try:
        handle = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        # Shared, and given back at once: a process that starts in this moment is refused and can start again.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(handle)
    finally:
        os.close(handle)
    return None


@contextmanager
def state_locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the state folder ``folder``, which is made if need be; the file names the holder meanwhile.

    Raises:
        ConfigError: another process holds it; the message names that one.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"Expected one process for this site: {_read(handle)} is working with {folder}."
            ) from error
        _write(handle, {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()})
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _write(handle: int, holder: dict[str, object]) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(holder).encode(), 0)


def _read(handle: int) -> Holder:
    try:
        holder = json.loads(os.pread(handle, 1024, 0))
        return Holder(pid=int(holder["pid"]), host=str(holder["host"]), since=str(holder["since"]))
    except (ValueError, KeyError, TypeError):
        # It has not written its name yet.
        return Holder(pid=None, host="", since="")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
