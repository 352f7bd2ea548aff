"""Puts synthetic films on disk as a download of CBIS-DDSM does: folders, DICOM files, and their peculiarities.

"PS3.x" is the DICOM standard, part x.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage
from rle.utils import encode_pixel_data

from shared_model.data.preprocessing import mask_box
from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import Laterality, LesionType, Split, View
from simulations.phantom.films import ByteArray, FloatArray, draw_film
from simulations.phantom.patients import Lesion, Patient

CROP_CONTEXT = 2.0
"""Side of a crop over the longer side of its lesion's box."""
MIN_CROP_SIDE = 72
"""Pixels; keeps single calcifications from filling their crop."""
SWAPPED_EVERY, OWN_MASK_SERIES_EVERY, RESIZED_MASK_EVERY = 7, 16, 12
"""One lesion view in so many has crop and mask swapped, the mask in a study of its own (6 % of the mass rows of
CBIS-DDSM; none of the calcifications), or a mask that is not of the film's size."""
RESIZED_MASK_SCALE = 0.9

_STUDY_DATE = "20160720"
_FOLDER_DATE = "07-20-2016"
_UID_NAMESPACE = uuid.UUID("6d9d5f6c-5f0b-5d5c-9a44-0b9a3f7c1c11")
_TYPE_WORD = {LesionType.MASS: "Mass", LesionType.CALCIFICATION: "Calc"}
_SPLIT_WORD = {Split.TRAIN: "Training", Split.TEST: "Test"}
_FILM, _CROP, _MASK = "full mammogram images", "cropped images", "ROI mask images"

WordArray = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """How one hospital's digitiser turns attenuation into stored values."""

    gain: float
    offset: float
    gamma: float
    noise: float
    """Standard deviation, in units of the full range."""
    blur: float
    """Standard deviation, pixels."""
    bits_stored: int
    """Of 16 allocated."""
    photometric_interpretation: str
    is_compressed: bool
    has_newer_layout: bool
    """``<subject>/<date>-DDSM-<n>/1.000000-<description>-<n>/1-1.dcm`` instead of folders named by UID."""


SCANNERS = {
    "MGH": Scanner(
        gain=1.05,
        offset=0.03,
        gamma=0.90,
        noise=0.008,
        blur=0.0,
        bits_stored=16,
        photometric_interpretation="MONOCHROME2",
        is_compressed=True,
        has_newer_layout=True,
    ),
    "WFU": Scanner(
        gain=0.95,
        offset=0.05,
        gamma=0.95,
        noise=0.012,
        blur=0.4,
        bits_stored=12,
        photometric_interpretation="MONOCHROME2",
        is_compressed=True,
        has_newer_layout=False,
    ),
    "ISMD": Scanner(
        gain=1.00,
        offset=0.02,
        gamma=1.05,
        noise=0.010,
        blur=0.5,
        bits_stored=16,
        photometric_interpretation="MONOCHROME1",
        is_compressed=False,
        has_newer_layout=False,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Series:
    """One DICOM series and the folder in which it lies."""

    subject: str
    study_uid: str
    series_uid: str
    description: str
    """Of the newer layout's folder."""

    def folder(self, *, is_newer: bool) -> str:
        """Return the folder relative to the data root."""
        if not is_newer:
            return f"{self.subject}/{self.study_uid}/{self.series_uid}"
        study, series = int(self.study_uid[-5:]), int(self.series_uid[-5:])
        return f"{self.subject}/{_FOLDER_DATE}-DDSM-{study}/1.000000-{self.description}-{series}"


@dataclass(frozen=True, kw_only=True)
class LesionView:
    """One row of a table and where its three images lie."""

    patient: Patient
    lesion: Lesion
    view: View
    film: Series
    crop: Series
    mask: Series
    """Equal to ``crop`` where both share a series."""
    is_swapped: bool
    """The files' names and descriptions say crop where the mask is, and the other way round."""
    mask_scale: float
    """Size of the mask over that of the film."""

    @property
    def crop_number(self) -> int:
        """Which file of its series the table calls the crop, from 0."""
        return int(self.mask == self.crop and self.lesion.lesion_type is LesionType.CALCIFICATION)

    @property
    def mask_number(self) -> int:
        """Which file of its series the table calls the mask, from 0."""
        return 1 - self.crop_number if self.mask == self.crop else 0


def plan_views(patients: Iterable[Patient], seed: int) -> dict[str, tuple[LesionView, ...]]:
    """Return every patient's lesion views by identifier, the peculiarities dealt out in turn."""
    counts = dict.fromkeys(LesionType, 0)
    plan = {}
    for patient in patients:
        views = []
        for lesion in patient.lesions:
            for view in lesion.views:
                views.append(_plan_view(patient, lesion, view, seed=seed, position=counts[lesion.lesion_type]))
                counts[lesion.lesion_type] += 1
        plan[patient.patient_id] = tuple(views)
    return plan


def _plan_view(patient: Patient, lesion: Lesion, view: View, *, seed: int, position: int) -> LesionView:
    prefix = f"{_TYPE_WORD[lesion.lesion_type]}-{_SPLIT_WORD[lesion.split]}"
    film = f"{prefix}_{patient.patient_id}_{lesion.laterality}_{view}"
    subject = f"{film}_{lesion.number}"
    has_own = lesion.lesion_type is LesionType.MASS and position % OWN_MASK_SERIES_EVERY == 5
    crop = _series(subject, _CROP if has_own else _MASK, seed)
    return LesionView(
        patient=patient,
        lesion=lesion,
        view=view,
        film=_series(film, _FILM, seed),
        crop=crop,
        mask=_series(subject, _MASK, seed) if has_own else crop,
        is_swapped=position % SWAPPED_EVERY == 3,
        mask_scale=RESIZED_MASK_SCALE if position % RESIZED_MASK_EVERY == 7 else 1.0,
    )


def _series(subject: str, description: str, seed: int) -> Series:
    study, series = (_uid(seed, subject, description, level) for level in ("study", "series"))
    return Series(subject=subject, study_uid=study, series_uid=series, description=description)


def _uid(seed: int, *names: str) -> str:
    """Return a UID derived from a name-based UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_UID_NAMESPACE, '/'.join((str(seed), *names))).int}"


def write_patient(root: Path, views: Sequence[LesionView], seed: int) -> None:
    """Draw and write all images of one patient; ``views`` are all of hers."""
    films: dict[Series, list[LesionView]] = {}
    for view in views:
        films.setdefault(view.film, []).append(view)
    for series, shown in films.items():
        _write_film(root, series, shown, seed)


def _write_film(root: Path, series: Series, shown: Sequence[LesionView], seed: int) -> None:
    """Write a film, and crop and mask of each lesion on it."""
    first = shown[0]
    rng = numpy_generator(seed, "phantom", "film", series.subject)
    film = draw_film(
        [view.lesion for view in shown],
        density=first.patient.density,
        view=first.view,
        laterality=first.lesion.laterality,
        rng=rng,
    )
    scanner = SCANNERS[first.patient.institution]
    stored = scan(film.image, scanner, rng)
    writer = _Writer(root=root, scanner=scanner, view=first.view, laterality=first.lesion.laterality, seed=seed)
    writer.write(series, 0, stored, description=_FILM)
    for view, mask in zip(shown, film.masks, strict=True):
        crop, fitted = cut_crop(stored, mask), _rescale(mask, view.mask_scale)
        images = (fitted, crop) if view.is_swapped else (crop, fitted)
        writer.write(view.crop, view.crop_number, images[0], description=_CROP)
        writer.write(view.mask, view.mask_number, images[1], description=_MASK)


def scan(image: FloatArray, scanner: Scanner, rng: np.random.Generator) -> WordArray:
    """Digitise a film: blur, characteristic curve, grain, quantisation; background stays free of grain.

    Args:
        image: ``(H, W)`` attenuation in [0, 1].
        scanner: which digitiser.
        rng: draws the grain and a slightly different exposure for each film.

    Returns:
        ``(H, W)`` stored values in ``[0, 2 ** bits_stored)``; inverted for MONOCHROME1 (PS3.3 C.7.6.3.1.2).
    """
    softened = cv2.GaussianBlur(image, (0, 0), scanner.blur) if scanner.blur else image
    exposure = scanner.gain * rng.uniform(0.97, 1.03)
    values = scanner.offset + exposure * softened**scanner.gamma
    values += np.float32(scanner.noise) * rng.standard_normal(image.shape, dtype=np.float32)
    largest = 2**scanner.bits_stored - 1
    stored = np.rint(np.clip(values, 0, 1) * (image > 0) * largest)
    is_inverted = scanner.photometric_interpretation == "MONOCHROME1"
    return np.asarray(largest - stored if is_inverted else stored, dtype=np.uint16)


def cut_crop(stored: WordArray, mask: ByteArray) -> WordArray:
    """Cut a square round the lesion out of the film, as far as the film reaches."""
    box = mask_box(mask)
    side = max(MIN_CROP_SIDE, round(CROP_CONTEXT * max(box.width, box.height)))
    top, left = box.y + (box.height - side) // 2, box.x + (box.width - side) // 2
    return np.ascontiguousarray(stored[max(top, 0) : top + side, max(left, 0) : left + side])


def _rescale(mask: ByteArray, scale: float) -> ByteArray:
    if scale == 1:
        return mask
    rows, columns = (round(scale * length) for length in mask.shape)
    return np.asarray(cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class _Writer:
    root: Path
    scanner: Scanner
    view: View
    laterality: Laterality
    seed: int

    def write(self, series: Series, number: int, pixels: WordArray | ByteArray, *, description: str) -> None:
        """Write file ``number`` (from 0) of a series."""
        folder = self.root / series.folder(is_newer=self.scanner.has_newer_layout)
        folder.mkdir(parents=True, exist_ok=True)
        dataset = self._header(series, number, description)
        self._add_pixels(dataset, pixels)
        dcmwrite(folder / f"1-{number + 1}.dcm", dataset, enforce_file_format=True)

    def _header(self, series: Series, number: int, description: str) -> Dataset:
        """Return the attributes of PS3.3 A.8.1 (Secondary Capture) that the files of CBIS-DDSM have."""
        dataset = Dataset()
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.SOPClassUID = SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = _uid(self.seed, series.series_uid, str(number))
        dataset.StudyDate = dataset.ContentDate = _STUDY_DATE
        dataset.StudyTime = dataset.ContentTime = "120000"
        dataset.AccessionNumber = ""
        dataset.Modality = "MG"
        dataset.ConversionType = "WSD"
        dataset.ReferringPhysicianName = ""
        dataset.SeriesDescription = description
        dataset.PatientName = dataset.PatientID = series.subject
        dataset.PatientBirthDate = dataset.PatientSex = ""
        dataset.BodyPartExamined = "BREAST"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = series.study_uid, series.series_uid
        dataset.StudyID = "DDSM"
        dataset.SeriesNumber = "1"
        dataset.InstanceNumber = str(number + 1)
        dataset.PatientOrientation = str(self.view)
        dataset.Laterality = self.laterality[0]
        return dataset

    def _add_pixels(self, dataset: Dataset, pixels: WordArray | ByteArray) -> None:
        is_mask = pixels.dtype == np.uint8
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2" if is_mask else self.scanner.photometric_interpretation
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.BitsAllocated = 8 * pixels.itemsize
        dataset.BitsStored = 8 if is_mask else self.scanner.bits_stored
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = 0
        is_compressed = self.scanner.is_compressed or is_mask
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = RLELossless if is_compressed else ExplicitVRLittleEndian
        # pydicom drives this encoder only where a third package is installed; its own is ten times slower.
        frame = pixels.tobytes()
        dataset.PixelData = encapsulate([encode_pixel_data(frame, dataset, "<")]) if is_compressed else frame
        # PS3.5 A.4 and A.2: encapsulated and 8-bit data are bytes.
        dataset["PixelData"].VR = "OB" if is_compressed else "OW"
