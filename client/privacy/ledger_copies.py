"""Copies of a ledger: the database, its head and its key together in a new folder, all of one moment."""

import shutil
import tempfile
from contextlib import closing
from pathlib import Path

from client.privacy import ledger_database as database
from client.privacy import ledger_files as files
from client.privacy.ledger_entries import Retired
from client.privacy.ledger_store import LedgerStore
from shared_model.errors import LedgerError
from shared_model.system.files import flush_folder, write_atomically


def copy_ledger(path: Path, folder: Path) -> Path:
    """Copy the ledger at ``path``, which the caller has locked, and return where the copy lies in ``folder``.

    The folder appears when everything in it is on disk, readable by its owner alone: the key is in it.

    Raises:
        LedgerError: the folder is in use, or a file cannot be read or written.
    """
    _require_unused(folder)
    with files.as_ledger_error(path):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            new_folder = Path(temporary) / folder.name
            new_folder.mkdir(mode=0o700)
            copy = new_folder / path.name
            _copy_database(path, copy)
            for beside in (files.head_path, files.key_path):
                write_atomically(beside(copy), beside(path).read_bytes())
            new_folder.rename(folder)
    return folder / path.name


def move_ledger(store: LedgerStore, folder: Path) -> Path:
    """Copy the ledger to ``folder`` and retire it where it is; return where it goes on.

    The copy gets its name only after the old one was retired, so that at no moment two are in force. A move that a
    crash cut short is finished by asking for the same again.

    Raises:
        LedgerError: the folder is in use, the ledger was changed, is damaged or retired, or a file cannot be written.
    """
    moved, hidden = folder / store.path.name, folder.with_name(f".{folder.name}.moving")
    retired = Retired(successor=str(moved))
    _require_unused(folder)
    with store.transaction() as transaction:
        head = transaction.history.head
        is_half_way = head is not None and head.content == retired and hidden.exists()
        if transaction.history.is_retired and not is_half_way:
            raise LedgerError(f"Expected the ledger in force; {store.path} was retired when it moved elsewhere.")
        if not is_half_way:
            shutil.rmtree(hidden, ignore_errors=True)
            copy_ledger(store.path, hidden)
            transaction.append(retired)
    with files.as_ledger_error(store.path):
        hidden.replace(folder)
        flush_folder(folder.parent)
    return moved


def _require_unused(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise LedgerError(f"Expected {folder} to be a new or empty folder.")


def _copy_database(path: Path, copy: Path) -> None:
    copy.touch(mode=0o600)
    with closing(database.connect(path, mode="ro")) as source, closing(database.connect(copy, mode="rw")) as target:
        target.execute("PRAGMA synchronous = EXTRA")
        source.backup(target)
