"""Writes synthetic films, and the crop and mask of every lesion on them, as DICOM files.

"PS3.x" is the DICOM standard, part x.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from rle.utils import encode_pixel_data

from client.data.preprocessing import mask_box
from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import Laterality, View
from simulations.phantom.file_plan import CROP, FILM, MASK, LesionView, Series, uid
from simulations.phantom.films import draw_film
from simulations.phantom.lesion_window import ByteArray
from simulations.phantom.scanners import SCANNERS, Scanner, WordArray, scan

CROP_CONTEXT = 2.0
"""Side of a crop over the longer side of its lesion's box."""
MIN_CROP_SIDE = 72
"""Pixels; keeps single calcifications from filling their crop."""
_STUDY_DATE = "20160720"


def write_patient(root: Path, views: Sequence[LesionView], seed: int) -> None:
    """Draw and write all images of one patient; ``views`` are all of hers."""
    films: dict[Series, list[LesionView]] = {}
    for view in views:
        films.setdefault(view.film, []).append(view)
    for series, lesion_views in films.items():
        _write_film(root, series, lesion_views, seed)


def _write_film(root: Path, series: Series, lesion_views: Sequence[LesionView], seed: int) -> None:
    """Write a film, and crop and mask of each lesion on it."""
    first = lesion_views[0]
    rng = numpy_generator(seed, "phantom", "film", series.subject)
    film = draw_film(
        [view.lesion for view in lesion_views],
        density=first.patient.density,
        view=first.view,
        laterality=first.lesion.laterality,
        rng=rng,
    )
    scanner = SCANNERS[first.patient.institution]
    stored = scan(film.image, scanner, rng)
    writer = _Writer(root=root, scanner=scanner, view=first.view, laterality=first.lesion.laterality, seed=seed)
    writer.write(series, 0, stored, description=FILM)
    for view, mask in zip(lesion_views, film.masks, strict=True):
        crop, fitted = cut_crop(stored, mask), _rescale(mask, view.mask_scale)
        images = (fitted, crop) if view.is_swapped else (crop, fitted)
        writer.write(view.crop, view.crop_number, images[0], description=CROP)
        writer.write(view.mask, view.mask_number, images[1], description=MASK)


def write_presentation(path: Path, pixels: WordArray, *, view: View, laterality: Laterality) -> None:
    """Write one picture of 12 bits as a hospital's machine does, for presentation and uncompressed."""
    dataset = Dataset()
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = uid(0, str(view)), uid(0, "study")
    dataset.SeriesInstanceUID = uid(0, "series", str(view))
    dataset.PatientID, dataset.StudyDate, dataset.Modality = "PHANTOM", _STUDY_DATE, "MG"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ViewPosition, dataset.ImageLaterality = str(view), laterality[0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(path, dataset, enforce_file_format=True)


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
        dataset.SOPInstanceUID = uid(self.seed, series.series_uid, str(number))
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
