"""What the server must not ask for twice in a secure sum: the sites of the run, and the lists of the round under way.

A site answers about one list in a round. So a list is on disk before anybody is asked about it, and a server that was
killed goes on with it. Nothing in the file is secret from the server.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from shared_model.errors import ConfigError, ProtocolError
from shared_model.secure_sum.roster import Advert
from shared_model.secure_sum.round_keys import Offer
from shared_model.system.documents import from_json
from shared_model.system.files import write_atomically

Kind = TypeVar("Kind", Advert, Offer)
SUM_FILE = "secure_sum.json"
"""In the run folder while the run goes on."""


@dataclass(frozen=True, kw_only=True)
class SumState:
    """The sites of a run, and how far its last secure sum has come."""

    run: str
    """Fingerprint of the configuration."""
    adverts: tuple[Advert, ...]
    server_round: int = 0
    offers: tuple[Offer, ...] = ()
    """Of those who take part in the round; empty before it begins."""
    sealed: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """By sender and receiver."""
    masked: Mapping[str, bytes] = field(default_factory=dict)
    """By site whose values are in the sum, its signature; empty before that is settled."""


def write_sum_state(folder: Path, state: SumState) -> None:
    """Replace the state of the run in ``folder``; it is on disk when this returns."""
    write_atomically(folder / SUM_FILE, json.dumps(_to_plain(asdict(state))).encode())


def read_sum_state(folder: Path, run: str) -> SumState | None:
    """Return the state of the run in ``folder``; None where it has formed no sum yet.

    Raises:
        ConfigError: the file is damaged, or another run's.
    """
    path = folder / SUM_FILE
    if not path.exists():
        return None
    try:
        plain = from_json(path.read_bytes())
        state = SumState(
            run=plain["run"],  # type: ignore[index]
            adverts=tuple(_built(Advert, entry) for entry in plain["adverts"]),  # type: ignore[index]
            server_round=int(plain["server_round"]),  # type: ignore[index]
            offers=tuple(_built(Offer, entry) for entry in plain["offers"]),  # type: ignore[index]
            sealed={site: _from_hex(entry) for site, entry in plain["sealed"].items()},  # type: ignore[index]
            masked=_from_hex(plain["masked"]),  # type: ignore[index]
        )
    except (AttributeError, KeyError, OSError, ProtocolError, TypeError, ValueError) as error:
        raise ConfigError(f"Expected the state of a secure sum in {path}: {error}; name another run.dir.") from error
    if state.run != run:
        raise ConfigError(f"Expected run.dir={folder} to hold a run of the same configuration; name another folder.")
    return state


def remove_sum_state(folder: Path) -> None:
    """Remove the state of a run whose results are written."""
    (folder / SUM_FILE).unlink(missing_ok=True)


def _to_plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _to_plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(entry) for entry in value]
    return value


_BYTES = {"identity", "run_key", "mask_key", "signature"}


def _built(kind: type[Kind], entry: Mapping[str, object]) -> Kind:
    values = {name: bytes.fromhex(str(value)) if name in _BYTES else value for name, value in entry.items()}
    return kind(**values)  # type: ignore[arg-type]


def _from_hex(entries: Mapping[str, str]) -> dict[str, bytes]:
    return {site: bytes.fromhex(entry) for site, entry in entries.items()}
