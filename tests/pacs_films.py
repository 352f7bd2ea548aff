"""Films of one examination as a hospital's PACS has them, a reading of them, and what hostile senders make of films."""

import dataclasses
import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from client.data.preprocessing import Box
from client.pacs.results.lesion_reading import LesionReading, MarkedFilm, Outcome, Score
from client.reading.result import MAP_SIDE, FilmMap
from shared_model.vocabulary import Laterality, LesionType, View

STUDY = "1.2.3.4"
PATIENT = "PHANTOM-1"


def write_films(phantom: Path, folder: Path, *, patient: str = PATIENT, study: str = STUDY) -> dict[View, Path]:
    """Write the CC and MLO film of one breast of the phantom as films of one patient and study."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for view in View:
        # CBIS-DDSM has a study and a patient for each view; a hospital has one.
        source = min(phantom.glob(f"Mass-Training_*_LEFT_{view}/*/*full*/*.dcm"))
        film = dcmread(source)
        film.PatientID, film.PatientName, film.StudyInstanceUID = patient, "Phantom^One", study
        film.AccessionNumber = "ACC1"
        made[view] = folder / f"{view}.dcm"
        film.save_as(made[view])
    return made


def reading_of(paths: dict[View, Path], **changes) -> LesionReading:
    """Return a reading of a marked lesion on these films."""
    levels = np.linspace(0, 255, MAP_SIDE**2).astype(np.uint8)
    # Of a square round the box, as the network is shown it.
    seen = FilmMap(square=(95, 110, 70), values=levels.tobytes().hex())
    reading = LesionReading(
        outcome=Outcome.READ,
        reason="",
        score=Score(
            probability=0.81,
            low=0.7,
            high=0.9,
            threshold=0.3,
            is_above=True,
            band="above 50 per cent",
            contributions={"image": 0.8},
        ),
        lesion="lesion 1",
        lesion_type=LesionType.MASS,
        laterality=Laterality.LEFT,
        films=tuple(
            MarkedFilm(path=path, view=view, box=Box(x=100, y=120, width=60, height=50), map=seen)
            for view, path in paths.items()
        ),
        cautions=("one reader, one decade",),
        release="phantom",
        release_digest="ab" * 32,
        network="fusion",
        software="0.1.0",
        read_at=datetime.datetime(2026, 11, 26, 9, 0, tzinfo=datetime.UTC),
    )
    return dataclasses.replace(reading, **changes)


def abstained(paths: dict[View, Path], **changes) -> LesionReading:
    """Return a reading without an answer."""
    return reading_of(paths, outcome=Outcome.ABSTAINED, reason="both labels are possible", score=None, **changes)


def encoded_items(num_items: int) -> bytes:
    """Return an explicit little-endian sequence of undefined length with that many empty items."""
    item = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
    return b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + item * num_items + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"


def header_of(path: Path) -> Dataset:
    """Return a file's data set without pixels."""
    return dcmread(path, stop_before_pixels=True)
