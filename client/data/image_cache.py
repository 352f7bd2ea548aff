"""A cache of network inputs on the site's disk: for each kind of settings one file of records, which grows.

An entry is keyed by the content of the files it was computed from, not by their names, and lives in a folder that is
named after the settings it was computed with. A record holds the key's digest, a checksum and the values. Records are
appended and flushed to disk; of a record that is torn or damaged the checksum is wrong, and it counts as absent. An
open cache takes one file descriptor, however many entries it has.
"""

import fcntl
import hashlib
import itertools
import json
import logging
import os
import shutil
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_model.errors import DataError
from shared_model.system.files import remove_abandoned, write_atomically, write_parts_atomically

logger = logging.getLogger(__name__)
_VERSION = 3
"""Part of what names a folder: 1 kept shards; since 2 a picture that was mirrored already is not mirrored again, and
since 3 there are no pictures of files that are refused by now."""
_SETTINGS, _ENTRIES = "settings.json", "entries"
_HEADER_BYTES, _RECORD_BYTES = 128, 36
"""What a file takes beside the values: its header, and digest and checksum of each record."""
_COPY_ROWS = 256
_FREE_BYTES = 2**30
"""Left free on the disk: a coordinator that asks for setting after setting must not make it full, since whether the
ledger then finds space for its reply would tell how many images there are."""
FloatArray = NDArray[np.float32]
Records = NDArray[Any]
"""``(N,)`` with the fields ``key``, ``checksum`` and ``values``."""


class _EntriesFile:
    """The records of one file, mapped; after it has grown, all that are there then."""

    def __init__(self, path: Path) -> None:
        self.inode = path.stat().st_ino
        self.records = _mapped(path)


class ImageCache:
    """Arrays of one shape and of one set of settings, by key."""

    def __init__(self, folder: Path, settings: Mapping[str, object], *, max_bytes: float | None = None) -> None:
        """Open, or begin, the cache for ``settings`` (JSON values) under ``folder``.

        Args:
            folder: of the caches for all settings.
            settings: what the arrays are computed with.
            max_bytes: quota of all that lies under ``folder``: before it is passed, the caches for other settings go,
                those first that were opened the longest time ago; what does not fit even then stays in memory, and so
                does what would leave less than 1 GiB free on the disk.

        Raises:
            DataError: what is there cannot be read.
        """
        text = json.dumps({"version": _VERSION, **settings}, sort_keys=True)
        self._root, self._max_bytes = folder, max_bytes
        self._folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self._folder)
        # Written at each opening: its time is when the cache was last used.
        write_atomically(self._folder / _SETTINGS, text.encode())
        self._file: _EntriesFile | None = None
        self._rows: dict[bytes, tuple[_EntriesFile, int]] = {}
        self._in_memory: dict[bytes, FloatArray] = {}
        self._read_keys()

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def get(self, key: str) -> FloatArray:
        """Return the array stored under ``key``.

        Raises:
            KeyError: there is none.
        """
        found = self._find(key)
        if found is None:
            raise KeyError(key)
        return found

    def put(self, keys: Sequence[str], arrays: FloatArray) -> None:
        """Store ``arrays[i]`` under ``keys[i]``, durably; only in memory where quota or disk forbid more.

        A disk that takes no more costs time at the next start, and not an answer now.
        """
        if len(keys) != len(arrays):
            raise ValueError(f"Expected as many keys as arrays, got {len(keys)} and {len(arrays)}.")
        records = _records(keys, np.ascontiguousarray(arrays, dtype=np.float32))
        try:
            with _locked(self._root):
                if self._make_room(records.nbytes + _HEADER_BYTES):
                    _append(self._folder / _ENTRIES, records)
                    self._read_keys()
                    return
        except OSError as error:
            logger.warning("The image cache cannot be written: %s: %s", error, self._folder)
        self._in_memory.update(zip(_keys_of(records), records["values"], strict=True))

    def _find(self, key: str) -> FloatArray | None:
        digest = _digest(key)
        if digest in self._in_memory:
            return self._in_memory[digest]
        if digest not in self._rows:
            return None
        file, row = self._rows[digest]
        return np.asarray(file.records["values"][row]) if _is_whole(file.records[row]) else None

    def _read_keys(self) -> None:
        """Map what the file has now, and read the keys that were not there before.

        Raises:
            DataError: it cannot be read.
        """
        path = self._folder / _ENTRIES
        try:
            file = _EntriesFile(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"{path}: Expected an image cache that can be read: {error.strerror}.") from error
        first = 0
        if self._file is not None and self._file.inode == file.inode:
            first = len(self._file.records)
            self._file.records = file.records
        else:
            # Another process may have erased entries of the file that was there; those read from it stay readable.
            self._file = file
        keys = _keys_of(self._file.records[first:])
        self._rows.update({key: (self._file, first + row) for row, key in enumerate(keys)})

    def _make_room(self, num_bytes: int) -> bool:
        """Drop caches for other settings until ``num_bytes`` more fit, and return whether they do."""
        if self._max_bytes is None:
            return self._leaves_space(num_bytes)
        sizes = {folder: _num_bytes(folder) for folder in _cache_folders(self._root)}
        for folder in sorted(set(sizes) - {self._folder}, key=_last_used):
            if sum(sizes.values()) + num_bytes <= self._max_bytes:
                break
            shutil.rmtree(folder)
            del sizes[folder]
        return sum(sizes.values()) + num_bytes <= self._max_bytes and self._leaves_space(num_bytes)

    def _leaves_space(self, num_bytes: int) -> bool:
        return shutil.disk_usage(self._root).free - num_bytes >= _FREE_BYTES


def cached_settings(folder: Path) -> dict[Path, dict[str, object]]:
    """Return the settings of every cache under ``folder``, by its own folder; none where they cannot be read."""
    found: dict[Path, dict[str, object]] = {}
    for cache in _cache_folders(folder):
        try:
            settings = json.loads((cache / _SETTINGS).read_text())
        except (OSError, ValueError):
            settings = None
        found[cache] = settings if isinstance(settings, dict) else {}
    return found


def keep_only(cache: Path, keys: Collection[str]) -> int:
    """Erase all entries of one ``cache`` but those of ``keys``, and return how many were erased.

    What a crash, damage or an earlier version left behind goes too, since nobody can tell whose image it is of.

    Raises:
        OSError: a file cannot be read, written or erased.
    """
    wanted, path = {_digest(key) for key in keys}, cache / _ENTRIES
    with _locked(cache.parent):
        if not cache.is_dir():
            return 0
        records = _mapped(path) if path.exists() else np.empty(0, dtype=_record_type(()))
        last_row = {key: row for row, key in enumerate(_keys_of(records)) if _is_whole(records[row])}
        rows = [row for key, row in last_row.items() if key in wanted]
        if not rows:
            path.unlink(missing_ok=True)
        elif path.stat().st_size > _HEADER_BYTES + len(rows) * records.itemsize:
            _replace(path, records, rows)
        for other in set(cache.iterdir()) - {path, cache / _SETTINGS}:
            other.unlink()
    return len(last_row) - len(rows)


def _record_type(shape: Sequence[int]) -> np.dtype[np.void]:
    return np.dtype([("key", "V32"), ("checksum", "<u4"), ("values", "<f4", tuple(shape))])


def _records(keys: Sequence[str], arrays: FloatArray) -> Records:
    records = np.zeros(len(keys), dtype=_record_type(arrays.shape[1:]))
    records["values"] = arrays
    for row, key in enumerate(keys):
        digest = _digest(key)
        records["key"][row] = np.void(digest)
        records["checksum"][row] = _checksum(digest, records["values"][row])
    return records


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _keys_of(records: Records) -> list[bytes]:
    joined = records["key"].tobytes()
    return [joined[start : start + 32] for start in range(0, len(joined), 32)]


def _checksum(digest: bytes, values: FloatArray) -> int:
    return zlib.crc32(np.ascontiguousarray(values).tobytes(), zlib.crc32(digest))


def _is_whole(record: np.void) -> bool:
    return int(record["checksum"]) == _checksum(record["key"].tobytes(), record["values"])


def _header(shape: Sequence[int]) -> bytes:
    return json.dumps({"shape": list(shape)}).ljust(_HEADER_BYTES - 1).encode() + b"\n"


def _mapped(path: Path) -> Records:
    """Map the whole records of a file, none where its header is damaged.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header, size = file.read(_HEADER_BYTES), os.fstat(file.fileno()).st_size
        try:
            shape = [int(length) for length in json.loads(header)["shape"]]
            record = _record_type(shape)
            num_rows = max(0, size - _HEADER_BYTES) // record.itemsize if header == _header(shape) else 0
        except (KeyError, OverflowError, TypeError, ValueError):
            num_rows = 0
        if num_rows == 0:
            return np.empty(0, dtype=_record_type(()))
        return np.memmap(file, dtype=record, mode="r", offset=_HEADER_BYTES, shape=(num_rows,))


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return b""


def _append(path: Path, records: Records) -> None:
    """Write ``records`` behind the whole ones that are there, over what a crash has left of another."""
    header = _header(records.dtype["values"].shape)
    if _start_of(path) != header:
        write_atomically(path, header)
    with path.open("r+b") as file:
        num_rows = (os.fstat(file.fileno()).st_size - _HEADER_BYTES) // records.itemsize
        file.seek(_HEADER_BYTES + num_rows * records.itemsize)
        file.write(records.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, records: Records, rows: Sequence[int]) -> None:
    """Put a file with the ``rows`` of ``records`` in the place of ``path``."""
    some = (records[rows[start : start + _COPY_ROWS]].tobytes() for start in range(0, len(rows), _COPY_ROWS))
    write_parts_atomically(path, itertools.chain((_header(records.dtype["values"].shape),), some))


def _cache_folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _last_used(folder: Path) -> int:
    try:
        return (folder / _SETTINGS).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let one writer at a time change the caches under ``root``: who erases must not meet a shard half-written."""
    handle = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
