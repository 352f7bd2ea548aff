"""Several files of a folder that change together: all of them or none, whenever the process is killed.

A change is first written down whole in the hidden folder ``.change``, which is made under another name: the rename is
the moment from which on the change is made. Then the files are written, each atomically, and ``.change`` is removed. If
that is cut off, ``finish_change`` writes them again; who reads the files calls it before.
"""

import json
import logging
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from shared_model.errors import ConfigError
from shared_model.system.files import flush_folder, owner_only, write_atomically

logger = logging.getLogger(__name__)
_CHANGE, _UNFINISHED, _LIST = ".change", ".change.unfinished", "files.json"


def change_together(folder: Path, files: Mapping[str, bytes | None]) -> None:
    """Write files into ``folder`` and remove others; folders are made where need be, for the owner alone.

    Args:
        folder: no other process changes it meanwhile.
        files: content by name, relative to ``folder`` and with ``/``; None for a file to remove. They change in this
            order.

    Raises:
        ConfigError: one of the files, or a folder between, is a link.
        OSError: something cannot be written. If ``.change`` is there by then, the change is made once that is mended.
    """
    for name in files:
        _require_no_link(folder, name)
    unfinished = folder / _UNFINISHED
    with owner_only():
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        for number, content in enumerate(files.values()):
            if content is not None:
                write_atomically(unfinished / str(number), content)
        listed = [[name, content is not None] for name, content in files.items()]
        write_atomically(unfinished / _LIST, json.dumps(listed).encode())
        unfinished.rename(folder / _CHANGE)
        flush_folder(folder)
        _finish(folder)


def has_unfinished_change(folder: Path) -> bool:
    """Return whether a change of ``folder`` was cut off after it was written down.

    One by another owner than the folder's is none: where others may write to the folder, they could make one up.
    """
    try:
        change = (folder / _CHANGE).lstat()
    except OSError:
        return False
    return stat.S_ISDIR(change.st_mode) and change.st_uid == folder.stat().st_uid


def finish_change(folder: Path) -> None:
    """Finish a change of ``folder`` that was cut off, if there is one; a warning names its files.

    Raises:
        OSError: a file cannot be written.
    """
    if has_unfinished_change(folder):
        with owner_only():
            names = _finish(folder)
        if names:
            logger.warning("Finished a change of %s that had been cut off: %s.", folder, ", ".join(names))


def _finish(folder: Path) -> list[str]:
    """Write what ``.change`` holds, remove it, and return the names of the files."""
    change = folder / _CHANGE
    if not (change / _LIST).exists():
        # All files are written, and removing the rest was cut off.
        shutil.rmtree(change)
        return []
    listed: list[tuple[str, bool]] = json.loads((change / _LIST).read_bytes())
    for number, (name, is_written) in enumerate(listed):
        path = folder / name
        if is_written:
            _make_folders(folder, path.parent)
            write_atomically(path, (change / str(number)).read_bytes())
        else:
            path.unlink(missing_ok=True)
            if path.parent.exists():
                flush_folder(path.parent)
    (change / _LIST).unlink()
    flush_folder(change)
    shutil.rmtree(change)
    return [name for name, _ in listed]


def _make_folders(folder: Path, inner: Path) -> None:
    if inner != folder and not inner.exists():
        _make_folders(folder, inner.parent)
        inner.mkdir(mode=0o700)
        flush_folder(inner.parent)


def _require_no_link(folder: Path, name: str) -> None:
    for part in (PurePosixPath(name), *PurePosixPath(name).parents):
        if (folder / part).is_symlink():
            raise ConfigError(f"Expected {folder / part} to be no link; put what it points to in its place.")
