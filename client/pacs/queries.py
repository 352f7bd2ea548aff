"""Studies and worklist entries that a PACS finds: what was asked, and what of the answers is believed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import date

from client.pacs.incoming import is_uid
from shared_model.errors import ConfigError
from shared_model.system.peer_text import peer_text

MAX_MATCHES = 1000
"""Studies of one query; who gets more asks more narrowly."""
_MATCHING = re.compile(r"[^*?\\]{1,64}")


@dataclass(frozen=True, kw_only=True)
class StudyQuery:
    """What a study must have; at least one of all. Mammography is asked for anyway."""

    patient: str | None = None
    accession: str | None = None
    day: date | None = None
    study: str | None = None
    """Study Instance UID."""

    def __post_init__(self) -> None:
        given = [value for field in fields(self) if (value := getattr(self, field.name)) is not None]
        if not given:
            raise ConfigError("Expected a patient, an accession number, a day or a study to look for, got none.")
        for name in ("patient", "accession"):
            value = getattr(self, name)
            if value is not None and not (_MATCHING.fullmatch(value) and value.isprintable()):
                raise ConfigError(f"Expected {name}={peer_text(value)} of at most 64 characters, without * ? and \\.")
        if self.study is not None and not is_uid(self.study):
            raise ConfigError(f"Expected study={peer_text(self.study)} to be a Study Instance UID.")


@dataclass(frozen=True, kw_only=True)
class FoundStudy:
    """One study of the PACS, as it says; text is made fit to print."""

    study: str
    patient: str
    accession: str
    day: str
    num_images: str

    def fits(self, query: StudyQuery) -> bool:
        """Return whether the PACS answered what it was asked."""
        day = None if query.day is None else query.day.strftime("%Y%m%d")
        asked = ((query.patient, self.patient), (query.accession, self.accession), (day, self.day))
        return is_uid(self.study) and query.study in (None, self.study) and all(a in (None, b) for a, b in asked)


@dataclass(frozen=True, kw_only=True)
class WorklistEntry:
    """One planned examination (PS3.4 K), text made fit to print."""

    patient: str
    accession: str
    study: str
    day: str
    time: str
    station: str


@dataclass(frozen=True, kw_only=True)
class Matches:
    """What came of a query."""

    studies: tuple[FoundStudy, ...]
    num_ignored: int
    """Answers that do not fit the question: nobody should read another patient's films by mistake."""


def believed(found: Iterable[FoundStudy], query: StudyQuery) -> Matches:
    """Keep the answers that fit the query, each study once, sorted by day and identifier."""
    answers = list(found)
    fitting = {study.study: study for study in answers if study.fits(query)}
    ordered = sorted(fitting.values(), key=lambda study: (study.day, study.study))
    return Matches(studies=tuple(ordered), num_ignored=sum(not study.fits(query) for study in answers))
