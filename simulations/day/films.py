"""The films of a day: examinations as they should be, and some of each kind that a reader must refuse or mark.

"PS3.x" is the DICOM standard, part x.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import DigitalMammographyXRayImageStorageForProcessing, ExplicitVRLittleEndian

from client.data.preprocessing import Box
from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import LesionType, View
from simulations.phantom.file_plan import uid
from simulations.phantom.population import draw_patients
from simulations.phantom.presentation import presentation_film
from simulations.phantom.scanners import SCANNERS

SEED = 2026
"""Of patients on whom no network of a day was trained."""
_NUM_DRAWN = 40
_LINES = 4
"""Of the grid in each direction, within the lesion's box."""


class Kind(StrEnum):
    """What is sent, and so what must come of it."""

    PLAIN = "both views"
    ONE_VIEW = "one view missing"
    NEGATIVE = "one film a negative"
    FOR_PROCESSING = "one film FOR PROCESSING"
    UNLIKE = "a localisation grid over the lesion"


@dataclass(frozen=True, kw_only=True)
class Breast:
    """Films of one breast before anybody has named a patient, and what is known of the lesion."""

    films: Mapping[View, tuple[Dataset, Box]]
    columns: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What a modality sends of one patient."""

    kind: Kind
    patient: str
    study: str
    """Study Instance UID."""
    paths: Mapping[View, Path]
    boxes: Mapping[View, Box]
    """Of the lesion, on each film."""
    columns: Mapping[str, str]


def phantom_breasts(count: int) -> tuple[Breast, ...]:
    """Draw so many breasts with a mass on both views."""
    found = (
        (patient, lesion)
        for patient in draw_patients(_NUM_DRAWN, SEED)
        for lesion in patient.lesions[:1]
        if lesion.lesion_type is LesionType.MASS and len(lesion.views) == len(View)
    )
    breasts = []
    for patient, lesion in (next(found) for _ in range(count)):
        scanner = SCANNERS[patient.institution]
        films = {
            view: presentation_film(
                lesion,
                view=view,
                density=patient.density,
                scanner=scanner,
                rng=numpy_generator(SEED, "day", patient.patient_id, str(view)),
            )
            for view in View
        }
        known = {"breast_density": str(patient.density), "abnormality_type": str(lesion.lesion_type)}
        breasts.append(Breast(films=films, columns=known))
    return tuple(breasts)


def read_film(path: Path) -> Dataset:
    """Return a film with its pixels as a modality may send them: uncompressed."""
    film = dcmread(path)
    film.decompress()
    return film


def write_examinations(breasts: Sequence[Breast], folder: Path) -> tuple[Examination, ...]:
    """Write each breast as an examination, and one examination of each other kind, made of them in turn.

    The same breasts give the same bytes, so that what is sent again is known again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    others = [kind for kind in Kind if kind is not Kind.PLAIN]
    sent = [(Kind.PLAIN, breast) for breast in breasts]
    sent += [(kind, breasts[number % len(breasts)]) for number, kind in enumerate(others)]
    return tuple(_written(kind, breast, number, folder) for number, (kind, breast) in enumerate(sent, start=1))


def _written(kind: Kind, breast: Breast, number: int, folder: Path) -> Examination:
    patient = f"DAY-{number:03d}"
    study = uid(SEED, "day", patient)
    films = dict(_changed(kind, breast))
    paths = {}
    for view, film in films.items():
        film.PatientID, film.PatientName = patient, f"Rehearsal^{number}"
        film.AccessionNumber = f"ACC{number:03d}"
        film.StudyInstanceUID, film.SeriesInstanceUID = study, uid(SEED, "day", patient, "series")
        film.SOPInstanceUID = uid(SEED, "day", patient, str(view))
        film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID
        film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID
        paths[view] = folder / f"{patient}-{view}.dcm"
        dcmwrite(paths[view], film, enforce_file_format=True)
    boxes = {view: breast.films[view][1] for view in films}
    return Examination(kind=kind, patient=patient, study=study, paths=paths, boxes=boxes, columns=breast.columns)


def _changed(kind: Kind, breast: Breast) -> Iterator[tuple[View, Dataset]]:
    """Yield the films of an examination of one kind: the first one is what its kind says."""
    for number, (view, (film, box)) in enumerate(breast.films.items()):
        if number and kind in (Kind.ONE_VIEW, Kind.FOR_PROCESSING):
            return
        changed = copy.deepcopy(film)
        if kind is Kind.NEGATIVE and number == 0:
            _set_pixels(changed, 2**film.BitsStored - 1 - _pixels(film))
        elif kind is Kind.FOR_PROCESSING:
            changed.SOPClassUID = DigitalMammographyXRayImageStorageForProcessing
            changed.PresentationIntentType = "FOR PROCESSING"
        elif kind is Kind.UNLIKE:
            _set_pixels(changed, _with_grid(_pixels(film), box, film))
        yield view, changed


def _pixels(film: Dataset) -> NDArray[np.uint16]:
    return np.frombuffer(film.PixelData, dtype="<u2").reshape(film.Rows, film.Columns)


def _set_pixels(film: Dataset, pixels: NDArray[np.uint16]) -> None:
    film.PixelData = pixels.astype("<u2").tobytes()
    film["PixelData"].VR = "OW"
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _with_grid(pixels: NDArray[np.uint16], box: Box, film: Dataset) -> NDArray[np.uint16]:
    """Return the film with bright lines over and round the box, as of a paddle with holes for a localisation."""
    found = pixels.copy()
    is_inverted = film.PhotometricInterpretation == "MONOCHROME1"
    metal = 0 if is_inverted else 2**film.BitsStored - 1
    side = max(box.width, box.height)
    step = max(2, side // _LINES)
    top, left = max(0, box.y - side), max(0, box.x - side)
    part = found[top : box.y + box.height + side, left : box.x + box.width + side]
    rows, columns = np.mgrid[: part.shape[0], : part.shape[1]]
    part[(rows % step < step // 3) | (columns % step < step // 3)] = metal
    return found
