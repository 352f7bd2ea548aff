"""One DICOM file -> grey values and the facts that a mammogram's reader needs.

Whatever a file may hold, reading it ends in a ``GreyImage`` or in a ``DicomError`` of one line that names file,
attribute, value and what was expected. "PS3.x" is the DICOM standard, part x.
"""

import struct
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from client.data.dicom.acquisition import (
    chest_wall_left,
    laterality,
    other_view,
    pixel_spacing,
    require_mammogram,
    view,
)
from client.data.dicom.decoding import read_pixel_format, stored_values
from client.data.dicom.files import read_dataset
from client.data.dicom.grey_values import grey_table, padding_mask
from client.data.image_files import open_image, unreadable
from client.data.preprocessing import GreyImage
from shared_model.errors import DicomError

# What pydicom and the decoders raise on damaged files; found by flipping and cutting bytes.
_READ_ERRORS = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    UserWarning,
    ValueError,
    struct.error,
)
# pydicom's other warnings are about values that are not used here, or are checked here.
_FATAL_WARNINGS = r".*(Unexpected end of file|fewer frames than expected)"


def read_dicom(path: Path) -> GreyImage:
    """Read a single-frame grey-scale image.

    Stored values pass the Modality LUT and the VOI LUT or window (PS3.3 C.11.1 and C.11.2; of several alternatives
    the first, a LUT before a window), MONOCHROME1 is inverted, so that brighter is denser tissue. A window maps onto
    [0, 1]. Bits beyond ``BitsStored``, which old files use for overlays, are ignored. A file without Modality is taken
    for a mammogram unless its SOP class is that of another kind of image.

    Returns:
        Pixels ``(Rows, Columns)``; ``value_range`` is what the stored bits can reach after those transforms.

    Raises:
        DicomError: the file is no such image, is no mammogram for presentation, is damaged, or contradicts itself.
    """
    with errors_naming(path):
        with open_image(path) as file:
            dataset = read_dataset(file)
        require_mammogram(dataset)
        pixel_format = read_pixel_format(dataset)
        stored = stored_values(dataset, pixel_format)
        table = grey_table(dataset, pixel_format)
        return GreyImage(
            # Rolled, so that a negative value counts from the end of the table, as NumPy's indices do.
            pixels=np.roll(table, pixel_format.smallest).take(stored),
            value_range=(float(table.min()), float(table.max())),
            padding=padding_mask(dataset, stored, pixel_format),
            laterality=laterality(dataset),
            view=view(dataset),
            other_view=other_view(dataset),
            chest_wall_left=chest_wall_left(dataset),
            series_description=str(dataset.get("SeriesDescription") or ""),
            pixel_spacing=pixel_spacing(dataset),
        )


@contextmanager
def header_of(path: Path) -> Iterator[Dataset]:
    """Yield the header of a DICOM file; values are made as they are asked for, inside the block, and so are errors.

    Raises:
        DicomError: the file cannot be read, or a value in it that the block asks for.
    """
    with errors_naming(path):
        with open_image(path) as file:
            dataset = read_dataset(file, with_pixels=False)
        yield dataset


def num_pixels(path: Path) -> int:
    """Return how many pixels a file claims to have; nothing of them is read.

    Raises:
        DicomError: the file cannot be read.
    """
    with header_of(path) as dataset:
        return int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0)


def patient(path: Path) -> tuple[str, str]:
    """Return PatientID and IssuerOfPatientID, empty where the file has none; no pixel is read.

    Raises:
        DicomError: the file cannot be read, or is of another kind.
    """
    with header_of(path) as dataset:
        return str(dataset.get("PatientID") or ""), str(dataset.get("IssuerOfPatientID") or "")


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Turn whatever reading the file raises inside the block into a ``DicomError`` of one line that names it."""
    try:
        with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=_FATAL_WARNINGS, category=UserWarning)
            yield
    except DicomError as error:
        text = str(error)
        raise DicomError(text if text.startswith(f"{path}: ") else f"{path}: {text}") from error
    except FileNotFoundError as error:
        raise unreadable(path, error) from error
    except _READ_ERRORS as error:
        cause = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise DicomError(f"{path}: Expected a readable DICOM image, got {cause}") from error
