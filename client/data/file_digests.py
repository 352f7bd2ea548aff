"""What image files hold, in short: digests that are remembered, so that a second run reads no image."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from client.data.image_files import open_image, require_image_file
from shared_model.system.files import write_atomically


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
        """Return the SHA-256 of an image file's content.

        Raises:
            OSError: the file cannot be read.
            DicomError: it is no regular file, empty or larger than an image may be; nothing of it is read then.
        """
        status = path.stat()
        require_image_file(path, status)
        name = str(path.resolve())
        known = self._known.get(name)
        if known is not None and known[:2] == [status.st_size, status.st_mtime_ns]:
            return str(known[2])
        with open_image(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
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
