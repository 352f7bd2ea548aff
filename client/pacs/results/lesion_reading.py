"""What an output needs of one reading of one lesion, and nothing else: valid, or it does not exist."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from client.data.preprocessing import Box
from client.reading.result import FilmMap
from shared_model.vocabulary import Laterality, LesionType, View


class Outcome(StrEnum):
    """How a reading ended."""

    READ = "read"
    ABSTAINED = "abstained"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, eq=False)
class MarkedFilm:
    """One film of the reading."""

    path: Path
    view: View
    box: Box | None
    """The lesion in pixels of the film; None where it is not marked."""
    map: FilmMap | None = None
    """Where the network looked; a hint, no outline. None where the reading has none."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A probability and what makes it readable; all in [0, 1]."""

    probability: float
    low: float
    """Of the interval of 95 per cent."""
    high: float
    threshold: float
    is_above: bool
    """The probability is at least the threshold."""
    band: str
    """In the release's words, for example ``above 50 %``."""
    contributions: Mapping[str, float]
    """By input, what it added to the logit."""

    def __post_init__(self) -> None:
        values = (self.low, self.probability, self.high, self.threshold)
        if not all(0 <= value <= 1 for value in values) or not self.low <= self.probability <= self.high:
            raise ValueError(f"Expected low <= probability <= high in [0, 1] and a threshold there, got {values}.")
        if self.is_above != (self.probability >= self.threshold):
            raise ValueError("Expected is_above to say whether the probability is at least the threshold.")
        if not all(math.isfinite(value) for value in self.contributions.values()):
            raise ValueError("Expected finite contributions.")


@dataclass(frozen=True, kw_only=True)
class LesionReading:
    """One reading; its films are of one study."""

    outcome: Outcome
    reason: str
    """Why it abstained or refused; empty for ``READ``."""
    score: Score | None
    """For ``READ`` only."""
    lesion: str
    """What the site calls the lesion, for example ``lesion 1``; no patient's name."""
    lesion_type: LesionType
    laterality: Laterality
    films: tuple[MarkedFilm, ...]
    cautions: tuple[str, ...]
    """When not to trust this."""
    release: str
    release_digest: str
    """SHA-256, hexadecimal."""
    network: str
    """Version of the network, for people."""
    software: str
    """Version of this program."""
    read_at: datetime
    """With its time zone."""

    def __post_init__(self) -> None:
        if (self.outcome is Outcome.READ) != (self.score is not None) or bool(self.reason) == (self.score is not None):
            raise ValueError("Expected a score or a reason, by the outcome.")
        views = [film.view for film in self.films]
        if not views or len(set(views)) != len(views):
            raise ValueError("Expected one film of each view, at least one.")
        if self.read_at.tzinfo is None:
            raise ValueError("Expected read_at with a time zone.")
        if len(self.release_digest) != 64 or set(self.release_digest) - set("0123456789abcdef"):
            raise ValueError("Expected release_digest to be a SHA-256 digest.")
