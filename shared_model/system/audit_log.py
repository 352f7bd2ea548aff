"""An append-only, hash-chained log of who asked for what and what was decided: JSON lines, no patient data.

Each line carries the SHA-256 digest of itself and of the line before, so that an edited, removed or moved line breaks
the chain. A cut at the end does not show in the file alone: ``head`` is for writing the last digest down elsewhere.
"""

import fcntl
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shared_model.errors import ConfigError
from shared_model.system.files import naming
from shared_model.system.hash_chain import FIRST_PREVIOUS, Link, digest_of, first_broken

Fact = str | int | float | bool | None
_MAX_TEXT = 200
_BLOCK = 4096
_NAME = re.compile(r"[a-z][a-z_]{0,39}")
_KEYS = {"sequence", "time", "event", "facts", "previous", "digest"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a verified log."""

    sequence: int
    """From 1."""
    time: datetime
    event: str
    facts: Mapping[str, Fact]


class AuditLog:
    """The log in the file at ``path``; threads and processes may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, event: str, **facts: Fact) -> None:
        """Append one line and flush it to disk.

        What a crash left of an unfinished line is moved aside, and a line says so.

        Args:
            event: a name of lower-case letters and underscores.
            facts: named likewise; text of at most 200 printable characters.

        Raises:
            ValueError: a name or value is none of these.
            ConfigError: the last line is no line of such a log.
            OSError: the file cannot be written.
        """
        for name in (event, *facts):
            if not _NAME.fullmatch(name):
                raise ValueError(f"Expected a name of lower-case letters, got {name!r}.")
        checked = {name: _checked(name, value) for name, value in facts.items()}
        with self._locked() as file:
            (sequence, previous), torn = self._last(file), self._set_torn_aside(file)
            lines = [_line(sequence + 1, event, checked, previous)]
            if torn is not None:
                first = _line(sequence + 1, "torn", {"moved_to": torn}, previous)
                lines = [first, _line(sequence + 2, event, checked, str(json.loads(first)["digest"]))]
            os.lseek(file, 0, os.SEEK_END)
            content = "".join(f"{line}\n" for line in lines).encode()
            with naming(self.path):
                while content:
                    content = content[os.write(file, content) :]
                os.fsync(file)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # The kernel drops the lock with the process, so that a crash leaves none behind.
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)

    def _last(self, file: int) -> tuple[int, str]:
        """Return number and digest of the last whole line."""
        lines = _tail(file).split(b"\n")[:-1]
        if not lines:
            return 0, FIRST_PREVIOUS
        line = _parsed(lines[-1], self.path, "the last")
        return int(str(line["sequence"])), str(line["digest"])

    def _set_torn_aside(self, file: int) -> str | None:
        """Move what follows the last line feed to a file beside the log and return its name; None if all is whole."""
        torn = _tail(file).split(b"\n")[-1]
        if not torn:
            return None
        number = 1
        while (target := self.path.with_name(f"{self.path.name}.torn-{number}")).exists():
            number += 1
        target.write_bytes(torn)
        os.ftruncate(file, os.fstat(file).st_size - len(torn))
        return target.name


def _tail(file: int) -> bytes:
    """Return the end of the file from before its last line, read backwards."""
    start, tail = os.fstat(file).st_size, b""
    while start and tail.count(b"\n") < 2:
        size = min(start, _BLOCK)
        start -= size
        tail = os.pread(file, size, start) + tail
    return tail


def read(path: Path) -> tuple[Line, ...]:
    """Check the whole chain and return the lines, none where there is no such file yet.

    Raises:
        ConfigError: naming the first line that was edited, moved or is missing; or the file cannot be read.
    """
    return tuple(_understood(line, path) for line in _verified(path)) if path.exists() else ()


def verify(path: Path) -> int:
    """Check the whole chain and return the number of lines.

    Raises:
        ConfigError: naming the first line that was edited, moved or is missing; or the file cannot be read.
    """
    return len(_verified(path))


def _verified(path: Path) -> list[dict[str, object]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"Expected an audit log in {path}: {error}") from error
    parsed = [_parsed(text, path, str(number)) for number, text in enumerate(content.splitlines(), start=1)]
    number = first_broken(map(_link, parsed))
    if number is not None:
        raise ConfigError(f"Expected line {number} of {path} as it was written: it was changed, or one is missing.")
    return parsed


def _understood(line: Mapping[str, object], path: Path) -> Line:
    sequence, facts = int(str(line["sequence"])), line["facts"]
    try:
        time = datetime.fromisoformat(str(line["time"]))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None or not isinstance(facts, dict):
        raise ConfigError(f"Expected line {sequence} of {path} to be one of an audit log.")
    return Line(sequence=sequence, time=time, event=str(line["event"]), facts=facts)


def head(path: Path) -> str:
    """Return the digest of the last line of a verified log, to be kept elsewhere.

    Raises:
        ConfigError: as ``verify``.
    """
    if verify(path) == 0:
        return FIRST_PREVIOUS
    return str(json.loads(path.read_bytes().splitlines()[-1])["digest"])


def _line(sequence: int, event: str, facts: Mapping[str, Fact], previous: str) -> str:
    line = {
        "sequence": sequence,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "facts": dict(facts),
        "previous": previous,
    }
    return json.dumps(line | {"digest": _digest(line)}, sort_keys=True)


def _digest(line: Mapping[str, object]) -> str:
    return digest_of({key: value for key, value in line.items() if key != "digest"})


def _link(line: Mapping[str, object]) -> Link:
    return Link(
        sequence=int(str(line["sequence"])),
        previous=str(line["previous"]),
        digest=str(line["digest"]),
        expected_digest=_digest(line),
    )


def _parsed(text: bytes, path: Path, which: str) -> dict[str, object]:
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict) or set(line) != _KEYS or type(line["sequence"]) is not int:
        raise ConfigError(f"Expected line {which} of {path} to be one of an audit log.")
    return line


def _checked(name: str, value: Fact) -> Fact:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"Expected {name}={value} to be finite.")
    if isinstance(value, str) and (len(value) > _MAX_TEXT or not value.isprintable()):
        raise ValueError(f"Expected {name} to be at most {_MAX_TEXT} printable characters.")
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"Expected {name} to be text, a number or null, got {type(value).__name__}.")
    return value
