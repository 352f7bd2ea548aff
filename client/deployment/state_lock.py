"""One process for a site: a lock in its state folder, which the kernel drops when the process ends, however it ends."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from shared_model.errors import ConfigError


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
                f"Expected one process for this site: {_holder(handle)} is working with {folder}."
            ) from error
        _write(handle, {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()})
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _write(handle: int, holder: dict[str, object]) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(holder).encode(), 0)


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.pread(handle, 1024, 0))
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']},"
    except (ValueError, KeyError, TypeError):
        # It has not written its name yet.
        return "another"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
