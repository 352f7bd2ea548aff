"""One breast of the phantom as a hospital's digital films: of one patient and study, for presentation, large enough.

The films of the synthetic CBIS-DDSM are as small as 512 x 384 pixels, which the reader takes for crops. These are the
same films, digitised by the same scanners, and then enlarged, so that a network that was trained on those sees the same
tissue at the box of a lesion.
"""

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from client.data.preprocessing import Box, mask_box
from shared_model.vocabulary import View
from simulations.phantom.films import draw_film
from simulations.phantom.patients import Lesion
from simulations.phantom.scanners import Scanner, scan

SCALE = 3
"""Enlargement."""
_DATE = "20260105"


def presentation_film(
    lesion: Lesion, *, view: View, density: int, scanner: Scanner, rng: np.random.Generator
) -> tuple[Dataset, Box]:
    """Return one film with a lesion, and the lesion's box on it; who and which study is for the caller to say."""
    film = draw_film([lesion], density=density, view=view, laterality=lesion.laterality, rng=rng)
    stored = scan(film.image, scanner, rng)
    large = cv2.resize(stored, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR)
    box = mask_box(film.masks[0])
    dataset = Dataset()
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.StudyDate, dataset.StudyTime, dataset.Modality = _DATE, "090000", "MG"
    dataset.AccessionNumber = dataset.StudyID = dataset.ReferringPhysicianName = ""
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ViewPosition, dataset.ImageLaterality = str(view), lesion.laterality[0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, scanner.photometric_interpretation
    dataset.Rows, dataset.Columns = large.shape
    dataset.BitsAllocated, dataset.BitsStored = 16, scanner.bits_stored
    dataset.HighBit, dataset.PixelRepresentation = scanner.bits_stored - 1, 0
    dataset.PixelData = large.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    scaled = (SCALE * side for side in (box.x, box.y, box.width, box.height))
    return dataset, Box(**dict(zip(("x", "y", "width", "height"), scaled, strict=True)))
