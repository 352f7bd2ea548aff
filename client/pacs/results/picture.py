"""A film with box, map and text burnt in, as a Secondary Capture for viewers that draw nothing themselves."""

import cv2
import numpy as np
from highdicom import CoordinateSystemNames, PhotometricInterpretationValues
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom import Dataset

from client.data.dicom.reader import read_dicom
from client.data.preprocessing import Box, GreyImage
from client.pacs.results.film_header import finish
from client.pacs.results.identity import PLACEHOLDER, identified, series_uid
from client.pacs.results.lesion_reading import LesionReading, MarkedFilm
from client.pacs.results.wording import HINT, MAKER, PROGRAM, WARNING, headline
from client.reading.result import MAP_SIDE, FilmMap

Picture = NDArray[np.uint8]
"""``(H, W, 3)``, red, green, blue."""

_SERIES_NUMBER = 9003
_LONGEST_SIDE = 2048
_BOX_COLOUR, _TEXT_COLOUR, _MAP_COLOUR = (0, 200, 255), (255, 255, 255), (255, 0, 0)
_MAP_STRENGTH = 0.5
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def picture(reading: LesionReading, film: MarkedFilm, header: Dataset) -> Dataset:
    """Return the Secondary Capture of one film.

    Args:
        reading: the film is one of it.
        film: its file is read.
        header: of the film, as ``read_header`` returns it.

    Raises:
        DicomError: the film cannot be read.
    """
    study = str(header.StudyInstanceUID)
    image = SCImage(
        pixel_array=drawn(reading, film, read_dicom(film.path)),
        photometric_interpretation=PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        study_instance_uid=study,
        series_instance_uid=series_uid(reading, study, "SC"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=PLACEHOLDER,
        instance_number=1 + reading.films.index(film),
        manufacturer=MAKER,
        patient_id=header.PatientID,
        patient_name=header.PatientName,
        patient_birth_date=header.PatientBirthDate,
        patient_sex=header.PatientSex,
        accession_number=header.AccessionNumber,
        study_id=header.StudyID,
        study_date=header.StudyDate or None,
        study_time=header.StudyTime or None,
        referring_physician_name=header.ReferringPhysicianName,
        laterality=reading.laterality[0],
        # highdicom wants one; the film's own, which may be none, comes below.
        patient_orientation=("A", "F"),
        manufacturer_model_name=PROGRAM,
        software_versions=reading.software,
        device_serial_number=reading.release_digest[:16],
        series_description="Automated reading (research)",
    )
    image.PatientOrientation = header.PatientOrientation
    image.BurnedInAnnotation = "YES"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.DerivationDescription = f"Reduced film with box, map and text; {WARNING}"
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    image.SourceImageSequence = [source]
    finish(image, header, reading.laterality)
    return identified(image, reading)


def drawn(reading: LesionReading, film: MarkedFilm, image: GreyImage) -> Picture:
    """Return the film, reduced to ``_LONGEST_SIDE``, with the map, then the box, then text in bands above and below."""
    rows, columns = image.pixels.shape
    scale = min(1.0, _LONGEST_SIDE / max(rows, columns))
    low, high = image.value_range
    grey = np.clip((image.pixels - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    canvas = np.repeat(cv2.resize(grey, size, interpolation=cv2.INTER_AREA)[:, :, None], 3, axis=2)
    if film.map is not None:
        _lay_over(canvas, film.map, scale)
    if film.box is not None:
        _draw(canvas, film.box, scale)
    lines = [headline(reading)] if film.map is None else [headline(reading), HINT]
    return np.concatenate([_band([WARNING.upper()], size[0]), canvas, _band(lines, size[0])])


def _lay_over(canvas: Picture, found: FilmMap, scale: float) -> None:
    """Draw a map in red, in place, as far as it lies on the film."""
    rows, columns, _ = canvas.shape
    left, top, side = (round(value * scale) for value in found.square)
    x, y = max(left, 0), max(top, 0)
    width, height = min(left + side, columns) - x, min(top + side, rows) - y
    if width < 1 or height < 1:
        return
    # From pixels of the canvas to those of the map, whose middles lie half a pixel inside: nothing as large as the
    # square is made, which may be far larger than the film.
    step = MAP_SIDE / side
    to_map = np.array([[step, 0, (x + 0.5 - left) * step - 0.5], [0, step, (y + 0.5 - top) * step - 0.5]])
    warmth = cv2.warpAffine(
        found.as_bytes().astype(np.float32) / 255,
        to_map,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )[:, :, None]
    under = canvas[y : y + height, x : x + width].astype(np.float32)
    share = _MAP_STRENGTH * warmth
    canvas[y : y + height, x : x + width] = under * (1 - share) + share * np.array(_MAP_COLOUR, np.float32)


def _draw(canvas: Picture, box: Box, scale: float) -> None:
    left, top = round(box.x * scale), round(box.y * scale)
    right, bottom = round((box.x + box.width) * scale), round((box.y + box.height) * scale)
    cv2.rectangle(canvas, (left, top), (right, bottom), _BOX_COLOUR, 2)


def _band(lines: list[str], width: int) -> Picture:
    """Return a black band with lines, each as large as fits, so that no text covers the film."""
    height = max(12, width // 40)
    band = np.zeros((len(lines) * 2 * height, width, 3), np.uint8)
    for number, line in enumerate(lines):
        (unit_width, unit_height), _ = cv2.getTextSize(line, _FONT, 1.0, 1)
        size = min(height / unit_height, 0.96 * width / unit_width)
        baseline = (2 * number + 1) * height + height // 2
        cv2.putText(band, line, (round(0.02 * width), baseline), _FONT, size, _TEXT_COLOUR, 1, cv2.LINE_AA)
    return band
