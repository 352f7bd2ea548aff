"""A reading of ``fedmammo read`` as outputs need it, joined to the very files that were read."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from client.data.image_files import open_image
from client.data.preprocessing import Box
from client.pacs.results.lesion_reading import LesionReading, MarkedFilm, Outcome, Score
from client.pacs.results.wording import ascii_text
from client.reading.result import Answer, Reading, ViewRead
from shared_model.errors import DicomError
from shared_model.vocabulary import LesionType

_SHORT = 16


def lesion_reading(reading: Reading, films: Sequence[Path], *, lesion: str, lesion_type: LesionType) -> LesionReading:
    """Return the reading for outputs.

    Args:
        reading: as ``fedmammo read`` gave it.
        films: the files that were read, in any order; a file that was not read is refused, whatever its name.
        lesion: what the site calls it; no patient's name.
        lesion_type: of the lesion.

    Raises:
        DicomError: no film could be opened, the films are not those of the reading, no side is known, two films are of
            one view, or the lesion has no name.
    """
    if not ascii_text(lesion):
        raise DicomError("Expected a name of the lesion that can be printed, such as lesion 1.")
    if not reading.views:
        raise DicomError(
            "Expected a reading of films that could be opened; this one was refused before any was "
            f"({'; '.join(str(why.code) for why in reading.why)}), so there is nothing to attach a result to."
        )
    by_digest = {film_digest(path): path for path in films}
    if set(by_digest) != {view.sha256 for view in reading.views} or len(by_digest) != len(films):
        raise DicomError("Expected the films of the reading, each once and unchanged; give exactly those.")
    sides = {view.laterality for view in reading.views if view.laterality is not None}
    if len(sides) != 1:
        raise DicomError("Expected a reading of one breast whose side is known; a result needs it.")
    if len({view.view for view in reading.views}) < len(reading.views):
        raise DicomError("Expected a reading of one film of each view; a result needs it.")
    return LesionReading(
        outcome=Outcome(str(reading.outcome)),
        reason="; ".join(why.text for why in reading.why),
        score=None if reading.answer is None else _score(reading.answer),
        lesion=lesion,
        lesion_type=lesion_type,
        laterality=sides.pop(),
        films=tuple(_film(view, by_digest[view.sha256]) for view in reading.views),
        cautions=reading.when_not_to_trust,
        release=reading.release.name,
        release_digest=reading.release.digest,
        network=f"of release {reading.release.digest[:_SHORT]}",
        software=f"source {reading.code[:_SHORT]}",
        read_at=datetime.fromisoformat(reading.read_at),
    )


def _film(view: ViewRead, path: Path) -> MarkedFilm:
    box = None if view.box is None else Box(**dict(zip(("x", "y", "width", "height"), view.box, strict=True)))
    if view.view is None:
        raise DicomError(f"{path}: Expected a film whose view is known; a result needs it.")
    return MarkedFilm(path=path, view=view.view, box=box, map=view.map)


def _score(answer: Answer) -> Score:
    by_column = {column.name: column.logits for column in answer.contributions.by_column}
    return Score(
        probability=answer.probability,
        low=answer.interval.low,
        high=answer.interval.high,
        threshold=answer.threshold,
        is_above=answer.is_above_threshold,
        band=str(answer.band),
        contributions={"image": answer.contributions.image, **by_column},
    )


def film_digest(path: Path) -> str:
    """Return the SHA-256 of a file, by which a reading knows its films.

    Raises:
        DicomError: it cannot be read.
    """
    try:
        with open_image(path) as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise DicomError(f"{path}: Expected a readable file: {error.strerror}.") from error
