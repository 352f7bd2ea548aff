"""A cache of network inputs on the site's disk: memory-mapped arrays, each with an index of its keys.

An entry is keyed by the content of the files it was computed from, not by their names, and lives in a folder that is
named after the settings it was computed with. Entries come in shards, each written under a temporary name and renamed
when it is complete: an interrupted run keeps every finished shard, and a half-written one is never seen.
"""

import hashlib
import io
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared_model.system.files import write_atomically

_VERSION = 1
FloatArray = NDArray[np.float32]


class ImageCache:
    """Arrays of one shape and of one set of settings, by key."""

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        """Open, or begin, the cache for ``settings`` (JSON values) under ``folder``."""
        text = json.dumps({"version": _VERSION, **settings}, sort_keys=True)
        self._folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / "settings.json", text.encode())
        self._entries: dict[str, tuple[FloatArray, int]] = {}
        for index in sorted(self._folder.glob("*.index.json")):
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
        """Store ``arrays[i]`` under ``keys[i]``, durably, as one shard."""
        if len(keys) != len(arrays):
            raise ValueError(f"Expected as many keys as arrays, got {len(keys)} and {len(arrays)}.")
        stem = self._folder / uuid.uuid4().hex
        values = stem.with_suffix(".npy")
        encoded = io.BytesIO()
        np.save(encoded, np.ascontiguousarray(arrays, dtype=np.float32), allow_pickle=False)
        write_atomically(values, encoded.getvalue())
        index = stem.with_suffix(".index.json")
        write_atomically(index, json.dumps({"values": values.name, "keys": list(keys)}).encode())
        self._open_shard(index)

    def _open_shard(self, index: Path) -> None:
        """Map a shard; one that is damaged is left out, and its entries are computed again."""
        try:
            content = json.loads(index.read_text())
            values = np.lib.format.open_memmap(self._folder / content["values"], mode="r")
            rows = zip(content["keys"], range(len(values)), strict=True)
            entries = {str(key): (values, row) for key, row in rows}
        except (OSError, ValueError, KeyError, TypeError):
            return
        if values.dtype == np.float32:
            self._entries.update(entries)


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

    def save(self) -> None:
        """Write the memory, if it has changed, in one piece."""
        if self._is_changed:
            write_atomically(self._path, json.dumps(self._known).encode())
            self._is_changed = False
