"""A cache of network inputs on the site's disk: memory-mapped arrays, each with an index of its keys.

An entry is keyed by the content of the files it was computed from, not by their names, and lives in a folder that is
named after the settings it was computed with. Entries come in shards, each written under a temporary name and renamed
when it is complete: an interrupted run keeps every finished shard, and a half-written one is never seen.
"""

import fcntl
import hashlib
import io
import json
import logging
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared_model.system.files import remove_abandoned, write_atomically

logger = logging.getLogger(__name__)
_VERSION = 1
_SETTINGS, _INDEX = "settings.json", ".index.json"
_SHARD_BYTES, _KEY_BYTES = 512, 80
"""What a shard takes at most beside its values: the header of the array, and the index with keys of 64 characters."""
_FREE_BYTES = 2**30
"""Left free on the disk: a coordinator that asks for setting after setting must not make it full, since whether the
ledger then finds space for its reply would tell how many images there are."""
FloatArray = NDArray[np.float32]


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
        """
        text = json.dumps({"version": _VERSION, **settings}, sort_keys=True)
        self._root, self._max_bytes = folder, max_bytes
        self._folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self._folder)
        # Written at each opening: its time is when the cache was last used.
        write_atomically(self._folder / _SETTINGS, text.encode())
        self._entries: dict[str, tuple[FloatArray, int]] = {}
        for index in sorted(self._folder.glob(f"*{_INDEX}")):
            self._open_shard(index)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def get(self, key: str) -> FloatArray:
        """Return the array stored under ``key``.

        Raises:
            KeyError: there is none.
        """
        shard, row = self._entries[key]
        return np.asarray(shard[row])

    def put(self, keys: Sequence[str], arrays: FloatArray) -> None:
        """Store ``arrays[i]`` under ``keys[i]``, durably, as one shard; only in memory where quota or disk forbid more.

        A disk that takes no more costs time at the next start, and not an answer now.
        """
        if len(keys) != len(arrays):
            raise ValueError(f"Expected as many keys as arrays, got {len(keys)} and {len(arrays)}.")
        arrays = np.ascontiguousarray(arrays, dtype=np.float32)
        try:
            with _locked(self._root):
                if self._make_room(arrays.nbytes + _SHARD_BYTES + _KEY_BYTES * len(keys)):
                    self._open_shard(_write_shard(self._folder, keys, arrays))
                    return
        except OSError as error:
            logger.warning("The image cache cannot be written: %s", error)
        self._entries.update({key: (arrays, row) for row, key in enumerate(keys)})

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

    def _open_shard(self, index: Path) -> None:
        """Map a shard; one that is damaged is left out, and its entries are computed again."""
        shard = _read_shard(index)
        if shard is not None:
            keys, values = shard
            self._entries.update({key: (values, row) for row, key in enumerate(keys)})


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

    What a crash or damage left behind goes too, since nobody can tell whose image it is of.

    Raises:
        OSError: a file cannot be written or erased.
    """
    wanted, num_erased = set(keys), 0
    with _locked(cache.parent):
        if not cache.is_dir():
            return 0
        kept = {cache / _SETTINGS}
        for index in sorted(cache.glob(f"*{_INDEX}")):
            shard = _read_shard(index)
            if shard is None:
                continue
            names, values = shard
            rows = [row for row, name in enumerate(names) if name in wanted]
            num_erased += len(names) - len(rows)
            if rows and len(rows) < len(names):
                index = _write_shard(cache, [names[row] for row in rows], values[rows])  # noqa: PLW2901
            if rows:
                kept |= {index, _values_of(index)}
        for path in set(cache.iterdir()) - kept:
            path.unlink()
    return num_erased


def _write_shard(folder: Path, keys: Sequence[str], arrays: FloatArray) -> Path:
    """Write a shard and return its index."""
    stem = folder / uuid.uuid4().hex
    values, encoded = stem.with_suffix(".npy"), io.BytesIO()
    np.save(encoded, arrays, allow_pickle=False)
    write_atomically(values, encoded.getvalue())
    index = stem.with_suffix(_INDEX)
    write_atomically(index, json.dumps({"values": values.name, "keys": list(keys)}).encode())
    return index


def _read_shard(index: Path) -> tuple[list[str], FloatArray] | None:
    """Return the keys and the mapped values of a shard; None for one that is damaged."""
    try:
        keys = [str(key) for key in json.loads(index.read_text())["keys"]]
        values = np.lib.format.open_memmap(_values_of(index), mode="r")
        is_whole = values.dtype == np.float32 and len(values) == len(keys)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (keys, values) if is_whole else None


def _values_of(index: Path) -> Path:
    return index.with_name(str(json.loads(index.read_text())["values"]))


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


class FileDigests:
    """SHA-256 of files, remembered by path, size and modification time so that a second run reads no image."""

    def __init__(self, path: Path) -> None:
        """Open, or begin, the memory at ``path``."""
        self._path = path
        self._known: dict[str, list[int | str]] = {}
        self._is_changed = False
        try:
            known = json.loads(path.read_text())
        except (OSError, ValueError):
            known = {}
        if isinstance(known, dict):
            self._known = {name: entry for name, entry in known.items() if isinstance(entry, list) and len(entry) == 3}

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of the file's content.

        Raises:
            OSError: the file cannot be read.
        """
        status = path.stat()
        name = str(path.resolve())
        known = self._known.get(name)
        if known is not None and known[:2] == [status.st_size, status.st_mtime_ns]:
            return str(known[2])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._known[name] = [status.st_size, status.st_mtime_ns, digest]
        self._is_changed = True
        return digest

    def keep_only(self, paths: Collection[Path]) -> None:
        """Forget all files but ``paths``."""
        names = {str(path.resolve()) for path in paths}
        kept = {name: entry for name, entry in self._known.items() if name in names}
        self._is_changed = self._is_changed or len(kept) < len(self._known)
        self._known = kept

    def save(self) -> None:
        """Write the memory, if it has changed, in one piece."""
        if self._is_changed:
            write_atomically(self._path, json.dumps(self._known).encode())
            self._is_changed = False
