"""How a ledger begins: its key, its tables and its first entry, so that a crash half-way can be made good."""

import os
import uuid
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from client.privacy import ledger_database as database
from client.privacy import ledger_files as files
from client.privacy.ledger_entries import FORMAT, Opened, parse_entry, to_row
from client.privacy.pseudonyms import SiteKey
from shared_model.errors import LedgerError
from shared_model.system.hash_chain import FIRST_PREVIOUS


def is_begun(path: Path) -> bool:
    """Return whether there is a ledger at ``path``; a creation that a crash cut short may have left less.

    Raises:
        LedgerError: the file is no database or cannot be read.
    """
    return path.exists() and database.has_tables(path)


def create_ledger(path: Path) -> None:
    """Begin a ledger at ``path``, with a key of its own; finish a creation that a crash cut short.

    Raises:
        LedgerError: there is a ledger already, or a part of a lost one; or it cannot be written.
    """
    with files.locked(path):
        if is_begun(path):
            raise LedgerError(f"Expected no ledger at {path} yet; a second one would forget what the first spent.")
        for beside in (files.head_path(path), files.key_path(path)):
            if beside.exists():
                raise LedgerError(f"Expected the ledger {path} beside {beside.name}: it is lost; get it back.")
        with files.as_ledger_error(path):
            _begin(path)


def load_key(path: Path) -> SiteKey:
    """Return the key of the ledger at ``path``.

    Raises:
        LedgerError: it is lost or damaged.
    """
    key, new = files.key_path(path), files.new_key_path(path)
    with files.as_ledger_error(path):
        if new.exists() and not key.exists():
            new.replace(key)
        return SiteKey.load(key)


def _begin(path: Path) -> None:
    # The key gets its name last, by ``load_key``, so that a key without a ledger always means a lost ledger.
    new_key = files.new_key_path(path)
    key = SiteKey.load(new_key) if new_key.exists() else SiteKey.create(new_key)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    opened = Opened(ledger=uuid.uuid4().hex, key_check=key.check, format=FORMAT)
    row = to_row(opened, sequence=1, time=datetime.now(UTC), previous=FIRST_PREVIOUS)
    with closing(database.connect(path, mode="rw")) as connection:
        database.begin(connection)
        database.create_tables(connection)
        database.insert_entry(connection, row)
        connection.commit()
    files.write_head(path, parse_entry(row))
