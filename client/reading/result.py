"""What a reading says: the one type that page, PACS and hospital system are given, and its JSON.

A reading is read, abstained or refused. Only one that is read has a probability: an answer that should not be used is
not there to be used. Nothing here leaves the hospital by itself.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Len
from numpy.typing import NDArray

from shared_model.config.bounds import Count, Fraction, NotNegative, Positive, Text, UnitInterval
from shared_model.errors import ConfigError, FederatedMammographyError
from shared_model.release.document import Digest, Level
from shared_model.system.checked import NOT_EMPTY, build, checked, require, rule
from shared_model.system.documents import from_json, to_json
from shared_model.system.files import write_atomically
from shared_model.system.peer_text import peer_text
from shared_model.vocabulary import Laterality, View

SCHEMA_VERSION = 3
"""Raised whenever a key is added, removed or changes its meaning; then ``read_plain`` learns the one before."""
MAP_SIDE = 16
"""Numbers a side of a map: about as many as the layer has that Grad-CAM looks at."""
_MAX_SIDE = 65536
_BAND_EDGES = (0.1, 0.5)


class OtherVersionError(FederatedMammographyError):
    """A reading was written by a version of this program that this one does not know."""


def _is_utc_second(text: str) -> bool:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return False
    return moment.utcoffset() == timedelta() and text == moment.isoformat(timespec="seconds")


class Outcome(StrEnum):
    """What became of a request."""

    READ = "read"
    ABSTAINED = "abstained"
    """The lesion fits the release, and the release cannot tell."""
    REFUSED = "refused"
    """The lesion does not fit the release."""


class Reason(StrEnum):
    """Why a lesion was not read; the words may change, these do not."""

    FILE = "file"
    """Unreadable, or no mammogram for presentation: modality, SOP class, raw values, photometric interpretation."""
    MODE = "mode"
    """A film where crops are read, or the other way round."""
    VIEWS = "views"
    """None, too many, or the same picture twice."""
    VIEW = "view"
    """The file names another view than was declared."""
    PATIENT = "patient"
    """Two files are of different patients or days."""
    LATERALITY = "laterality"
    """Files, or file and table, name different breasts."""
    SPACING = "spacing"
    """Pixels are not square, or two views have different ones."""
    RANGE = "range"
    """Hardly any of the grey levels are used."""
    NEGATIVE = "negative"
    """Tissue is darker than what surrounds it."""
    GREY_LEVELS = "grey_levels"
    """Unlike those of the public lesions."""
    BOX = "box"
    """Missing, not on the film, or not on the breast."""
    COLUMNS = "columns"
    """A column or value outside the contract."""
    NOVELTY = "novelty"
    """The features are unlike those of the public lesions."""
    UNDECIDED = "undecided"
    """Benign and malignant are both possible, or neither is, at the release's level."""


class Band(StrEnum):
    """Of the probability; no BI-RADS category, which stands for more than a number."""

    LOW = "below 10 per cent"
    MIDDLE = "10 to 50 per cent"
    HIGH = "above 50 per cent"

    @classmethod
    def of(cls, probability: float) -> "Band":
        """Return the band of a probability."""
        low, high = _BAND_EDGES
        return cls.LOW if probability < low else cls.MIDDLE if probability <= high else cls.HIGH


@checked(key="why", error=ValueError)
class Why:
    """One reason against a reading."""

    code: Reason
    text: Text
    """One line for a person."""


@checked(key="map", error=ValueError)
class FilmMap:
    """Where the network looked on a picture: Grad-CAM, a hint, and neither evidence nor the outline of a lesion."""

    square: Annotated[tuple[int, ...], Len(3, 3)]
    """Left, top and side in pixels of the picture; it may reach beyond it."""
    values: Annotated[str, rule(re.compile(rf"[0-9a-f]{{{2 * MAP_SIDE**2}}}").fullmatch, "to be a map in hexadecimal")]
    """``MAP_SIDE`` rows of as many bytes, the upper left first; 255 is what speaks most for malignancy."""

    def __post_init__(self) -> None:
        require(0 < self.square[2] <= _MAX_SIDE, f"in (0, {_MAX_SIDE}]", square=self.square[2])
        is_near = all(abs(edge) <= _MAX_SIDE for edge in self.square[:2])
        require(is_near, f"to begin within {_MAX_SIDE} pixels", square=self.square[:2])

    def as_bytes(self) -> NDArray[np.uint8]:
        """Return the values, ``(MAP_SIDE, MAP_SIDE)``."""
        return np.frombuffer(bytes.fromhex(self.values), dtype=np.uint8).reshape(MAP_SIDE, MAP_SIDE)


@checked(key="views", error=ValueError)
class ViewRead:
    """One picture that was looked at."""

    view: View | None
    """As declared, or as the file says; null where nobody says."""
    laterality: Laterality | None
    box: Annotated[tuple[int, ...], Len(4, 4)] | None
    """x, y, width, height in pixels of the film; null for a crop."""
    sha256: Digest
    """Of the file, so that whoever has it can tell which one this was."""
    grey_levels: Mapping[str, float] | None
    """Of what the network was shown, by the names of ``GreyLevels``; null where a gate before it refused."""
    map: FilmMap | None
    """Null where it was not read, or nobody asked for maps."""

    def __post_init__(self) -> None:
        is_box = self.box is None or (min(self.box[:2]) >= 0 and min(self.box[2:]) >= 1)
        require(is_box, "to begin at 0 or more and to have an area", box=self.box)


@checked(key="columns", error=ValueError)
class ColumnRead:
    """One clinical column, and what it added to the logit."""

    name: Text
    value: str | None
    """Null where it was not recorded; of several views with different values, those joined by commas."""
    logits: float


@checked(key="contributions", error=ValueError)
class Contributions:
    """How the logit adds up: base, image and columns (Shapley values of the two); an account, and no cause."""

    base: float
    image: float
    columns: float
    image_share: Fraction | None
    """Share of the image in what both moved; null where neither moved anything."""
    by_column: tuple[ColumnRead, ...]


@checked(key="local", error=ValueError)
class LocalProbability:
    """The probability moved to the outcomes that this site has kept: beside the release's own, never in its place."""

    probability: Fraction
    interval: UnitInterval
    """95 %, of the line that was fitted to the outcomes alone."""
    slope: Positive
    """1 where only the offset was fitted."""
    offset: float
    """The release's logit ``l`` becomes ``slope * l + offset``."""
    is_slope_fitted: bool
    num_benign: Count
    """Patients whose outcome was used; this patient is none of them."""
    num_malignant: Count

    def __post_init__(self) -> None:
        is_inside = self.interval.low <= self.probability <= self.interval.high
        require(is_inside, f"to hold probability={self.probability}", interval=self.interval)
        require(self.is_slope_fitted or self.slope == 1, "1 where it was not fitted", slope=self.slope)


@checked(key="answer", error=ValueError)
class Answer:
    """What a lesion that is read is given."""

    probability: Fraction
    """Of malignancy, among lesions like those of the training."""
    interval: UnitInterval
    """95 %, of the scaling alone."""
    threshold: Fraction
    threshold_interval: UnitInterval
    is_above_threshold: bool
    """The call, frozen with the release: from the threshold on a lesion is called malignant."""
    band: Band
    contributions: Contributions
    novelty_distance: NotNegative | None
    """In units of the limit, at most 1; null where novelty was not calibrated."""
    conformal_level: Level | None
    """Null where abstention was not calibrated."""
    conformal_label: str | None
    """``benign`` or ``malignant``, the one label left at the level; null with it. It need not agree with the call."""
    local: LocalProbability | None
    """Null where the site does not recalibrate, or has too few outcomes. The call never rests on it."""

    def __post_init__(self) -> None:
        expectation = f"to say whether probability={self.probability} >= threshold={self.threshold}"
        is_above = self.probability >= self.threshold
        require(self.is_above_threshold == is_above, expectation, is_above_threshold=self.is_above_threshold)
        is_inside = self.interval.low <= self.probability <= self.interval.high
        require(is_inside, f"to hold probability={self.probability}", interval=self.interval)
        require(self.band is Band.of(self.probability), f"that of {self.probability}", band=self.band)


@checked(key="release", error=ValueError)
class ReleaseRead:
    """Which release answered, and what is known of it."""

    name: Text
    digest: Digest
    is_signed: bool
    is_signer_known: bool
    """Whether the signer's certificate is one of the site's federation."""
    is_approved: bool
    """Whether the site's own list has the digest."""


@checked(key="reading", error=ValueError)
class Reading:
    """One request and what came of it."""

    schema_version: int = SCHEMA_VERSION
    reading_id: Annotated[str, rule(re.compile(r"[0-9a-f]{32}").fullmatch, "to be 32 hexadecimal digits")]
    """Drawn at random; in the site's audit log it stands for the reading."""
    read_at: Annotated[str, rule(_is_utc_second, "to be a time in UTC to the second, ISO 8601")]
    outcome: Outcome
    why: tuple[Why, ...]
    """Why it was not read; empty where it was."""
    answer: Answer | None
    """Null unless it was read."""
    views: tuple[ViewRead, ...]
    """Those that could be opened, CC first."""
    when_not_to_trust: Annotated[tuple[Text, ...], NOT_EMPTY]
    """Of this reading first, then of the release whatever the lesion."""
    release: ReleaseRead
    code: Digest
    """Fingerprint of the source code that read it."""

    def __post_init__(self) -> None:
        require(self.schema_version == SCHEMA_VERSION, f"= {SCHEMA_VERSION}", schema_version=self.schema_version)
        is_read = self.outcome is Outcome.READ
        require(is_read == (self.answer is not None), "given exactly where it was read", answer=self.answer is not None)
        require(is_read == (not self.why), "empty exactly where it was read", why=len(self.why))


def to_result(reading: Reading) -> str:
    """Return the reading as JSON, which ``read_result`` reads again."""
    return to_json(reading)


def write_result(reading: Reading, path: Path) -> None:
    """Write the reading as JSON, whole or not at all, for its owner alone to read."""
    write_atomically(path, to_result(reading).encode())


def read_plain(values: object, *, read_at: str | None = None) -> Reading:
    """Return the reading of plain values, which this or an earlier schema version wrote.

    What an earlier one did not know is null.

    Args:
        values: as JSON gives them.
        read_at: when it was read, for the first schema version, which did not say so.

    Raises:
        OtherVersionError: another version wrote it, or the first one and nobody says when.
        ValueError: they are no reading.
    """
    version = values.get("schema_version") if isinstance(values, dict) else SCHEMA_VERSION
    is_known = version in range(2, SCHEMA_VERSION + 1) or (version == 1 and read_at is not None)
    if not is_known or isinstance(version, bool):
        raise OtherVersionError(
            f"Expected schema_version={peer_text(str(version), 20)} of a reading from 2 to {SCHEMA_VERSION}; another "
            "version of this program wrote it."
        )
    if isinstance(values, dict):
        values = _upgraded({"read_at": read_at} | values)
    return build(Reading, values, path="reading")


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of an earlier schema version as those of this one; of this one they stay."""
    if values["schema_version"] == SCHEMA_VERSION:
        return values
    views, answer = values.get("views"), values.get("answer")
    if isinstance(views, list):
        views = [{"grey_levels": None, "map": None} | view if isinstance(view, dict) else view for view in views]
    if isinstance(answer, dict):
        answer = {"local": None} | answer
    return {**values, "schema_version": SCHEMA_VERSION, "views": views, "answer": answer}


def read_result(path: Path) -> Reading:
    """Read what ``write_result`` wrote.

    Raises:
        ConfigError: the file is not there, or is no reading of this or an earlier schema version.
    """
    try:
        return read_plain(from_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, OtherVersionError) as error:
        raise ConfigError(f"Expected a reading in {path}: {error}") from error
