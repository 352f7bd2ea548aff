"""What the page keeps at the site, beside the ledger: readings, and what doctors thought of them. Nothing is sent.

Studies and patients stand in it as keyed digests. What a doctor writes is kept as written, so the file is for its owner
alone, as the ledger is.
"""

import secrets
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from client.reading.result import OtherVersionError, Outcome, Reading, read_plain, to_result
from shared_model.errors import ConfigError
from shared_model.system.documents import from_json
from shared_model.system.files import owner_only
from shared_model.system.spreadsheets import harmless_csv

NOT_SHOWN = "written by another version of this program, or damaged; not shown"
_LOCK_SECONDS = 30.0
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS key (id INTEGER PRIMARY KEY CHECK (id = 1), content BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS readings (reading_id TEXT PRIMARY KEY, study TEXT NOT NULL, patient TEXT NOT NULL, "
    "time TEXT NOT NULL, user TEXT NOT NULL, content TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS readings_of_patient ON readings (patient)",
    "CREATE TABLE IF NOT EXISTS opinions (sequence INTEGER PRIMARY KEY AUTOINCREMENT, reading_id TEXT NOT NULL "
    "REFERENCES readings, time TEXT NOT NULL, user TEXT NOT NULL, verdict TEXT NOT NULL, why TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS outcomes (sequence INTEGER PRIMARY KEY AUTOINCREMENT, reading_id TEXT NOT NULL "
    "REFERENCES readings, time TEXT NOT NULL, user TEXT NOT NULL, pathology TEXT NOT NULL)",
    # Without them every reading that is shown looks at all that came after any other.
    "CREATE INDEX IF NOT EXISTS opinions_of_reading ON opinions (reading_id)",
    "CREATE INDEX IF NOT EXISTS outcomes_of_reading ON outcomes (reading_id)",
)
_HEADER = (
    "reading", "study", "patient", "time", "user", "outcome", "probability", "threshold", "call", "release", "verdict",
    "why", "opinion_time", "opinion_user", "pathology", "pathology_time", "pathology_user",
)  # fmt: skip


class Verdict(StrEnum):
    """What a doctor thinks of a reading."""

    AGREE = "agree"
    DISAGREE = "disagree"


class Known(StrEnum):
    """What a lesion turned out to be."""

    BENIGN = "benign"
    MALIGNANT = "malignant"


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What one doctor thought of a reading."""

    time: str
    user: str
    verdict: Verdict
    why: str


@dataclass(frozen=True, kw_only=True)
class KeptReading:
    """One reading and what came after it."""

    reading: Reading
    study: str
    patient: str
    time: str
    """UTC, ISO 8601 to the second."""
    user: str
    opinions: tuple[Opinion, ...]
    """First to last; the last counts."""
    pathology: Known | None
    pathology_time: str
    pathology_user: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is kept of a question: the readings that this version of the program can show, and how many others."""

    readings: tuple[KeptReading, ...]
    """Newest first."""
    num_not_shown: int
    """Written by another version of this program, or damaged: they stay where they are."""


class KeptReadings:
    """The file; threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open the file, made if it is not there.

        Raises:
            ConfigError: it cannot be used, is no such file, is a link, or others may read it.
        """
        self._path = path
        _require_own(path)
        with self._connected() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT OR IGNORE INTO key VALUES (1, ?)", (secrets.token_bytes(32),))
            self.key = bytes(connection.execute("SELECT content FROM key").fetchone()[0])

    def add(self, reading: Reading, *, study: str, patient: str, user: str) -> None:
        """Keep a reading.

        Raises:
            ConfigError: the file cannot be written.
        """
        with self._connected() as connection:
            values = (reading.reading_id, study, patient, _now(), user, to_result(reading))
            connection.execute("INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?)", values)

    def add_opinion(self, reading_id: str, verdict: Verdict, why: str, *, user: str) -> None:
        """Keep what a doctor thinks; an earlier opinion stays beside it."""
        with self._connected() as connection:
            values = (reading_id, _now(), user, str(verdict), why)
            connection.execute(
                "INSERT INTO opinions (reading_id, time, user, verdict, why) VALUES (?, ?, ?, ?, ?)", values
            )

    def add_pathology(self, reading_id: str, pathology: Known, *, user: str) -> None:
        """Keep what the lesion turned out to be; the last that is kept counts."""
        with self._connected() as connection:
            values = (reading_id, _now(), user, str(pathology))
            connection.execute("INSERT INTO outcomes (reading_id, time, user, pathology) VALUES (?, ?, ?, ?)", values)

    def get(self, reading_id: str) -> KeptReading | None:
        """Return one reading; None where there is none, or none that can be shown."""
        return next(iter(self._select("reading_id = ?", (reading_id,)).readings), None)

    def of_patient(self, patient: str) -> Found:
        """Return the readings of a patient."""
        return self._select("patient = ?", (patient,))

    def newest(self, most: int) -> Found:
        """Return the newest ``most`` readings."""
        return self._select("1", (), most=most)

    def with_outcome(self, most: int) -> Found:
        """Return the newest ``most`` readings of which it is known what the lesion turned out to be."""
        return self._select("reading_id IN (SELECT reading_id FROM outcomes)", (), most=most)

    def counts(self) -> dict[str, int]:
        """Return how often each study was read."""
        with self._connected() as connection:
            return dict(connection.execute("SELECT study, COUNT(*) FROM readings GROUP BY study").fetchall())

    def to_csv(self) -> bytes:
        """Return everything but the doctors' earlier opinions as CSV, oldest first, harmless to spreadsheets.

        A last line says how many readings cannot be shown, if any.
        """
        found = self._select("1", ())
        rows = [_row(kept) for kept in reversed(found.readings)]
        if found.num_not_shown:
            rows.append((f"{found.num_not_shown} {NOT_SHOWN}", *[""] * (len(_HEADER) - 1)))
        return harmless_csv(_HEADER, rows)

    def _select(self, condition: str, values: Sequence[str], *, most: int = -1) -> Found:
        query = f"SELECT * FROM readings WHERE {condition} ORDER BY rowid DESC LIMIT ?"  # noqa: S608, our own words
        with self._connected() as connection:
            rows = connection.execute(query, (*values, most)).fetchall()
            readings = [_kept(connection, row) for row in rows]
        shown = tuple(each for each in readings if each is not None)
        return Found(readings=shown, num_not_shown=len(rows) - len(shown))

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a transaction that is flushed to disk at the end."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with owner_only(), closing(sqlite3.connect(self._path, timeout=_LOCK_SECONDS)) as connection, connection:
                connection.execute("PRAGMA synchronous = EXTRA")
                connection.execute("PRAGMA foreign_keys = ON")
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"Expected the kept readings in {self._path}: {error}") from error


def _require_own(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        # Not there yet, or for SQLite to complain about.
        return
    if not stat.S_ISREG(mode):
        raise ConfigError(f"Expected a file of its own in {path}, and no link.")
    if mode & 0o077:
        raise ConfigError(f"Expected {path} to be readable by its owner only; run chmod 600.")


def _kept(connection: sqlite3.Connection, row: Sequence[str]) -> KeptReading | None:
    """Return a reading with what came after it; None where this version cannot read it."""
    reading_id, study, patient, time, user, content = row
    opinions = connection.execute(
        "SELECT time, user, verdict, why FROM opinions WHERE reading_id = ? ORDER BY sequence", (reading_id,)
    ).fetchall()
    pathology = connection.execute(
        "SELECT time, user, pathology FROM outcomes WHERE reading_id = ? ORDER BY sequence DESC LIMIT 1", (reading_id,)
    ).fetchone()
    try:
        reading = read_plain(from_json(content), read_at=time)
        for each in (time, *(opinion[0] for opinion in opinions)):
            datetime.fromisoformat(each).astimezone(UTC)
        kept = KeptReading(
            reading=reading,
            study=study,
            patient=patient,
            time=time,
            user=user,
            opinions=tuple(
                Opinion(time=when, user=who, verdict=Verdict(verdict), why=why) for when, who, verdict, why in opinions
            ),
            pathology=None if pathology is None else Known(pathology[2]),
            pathology_time="" if pathology is None else pathology[0],
            pathology_user="" if pathology is None else pathology[1],
        )
    except (OtherVersionError, OverflowError, TypeError, ValueError):
        return None
    # Under another identifier opinions and outcome would be those of another.
    return kept if reading.reading_id == reading_id else None


def _row(kept: KeptReading) -> tuple[object, ...]:
    answer, last = kept.reading.answer, kept.opinions[-1] if kept.opinions else None
    is_read = kept.reading.outcome is Outcome.READ and answer is not None
    call = ("malignant" if answer.is_above_threshold else "benign") if answer is not None else ""
    return (
        kept.reading.reading_id,
        kept.study,
        kept.patient,
        kept.time,
        kept.user,
        str(kept.reading.outcome),
        answer.probability if is_read and answer is not None else "",
        answer.threshold if is_read and answer is not None else "",
        call,
        kept.reading.release.digest,
        "" if last is None else str(last.verdict),
        "" if last is None else last.why,
        "" if last is None else last.time,
        "" if last is None else last.user,
        "" if kept.pathology is None else str(kept.pathology),
        kept.pathology_time,
        kept.pathology_user,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
