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
from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info

from client.data.dicom.attributes import expect
from client.data.dicom.decoding import READABLE_SYNTAXES, read_pixel_format, stored_values
from client.data.dicom.grey_values import grey_table, padding_mask
from client.data.preprocessing import GreyImage
from shared_model.errors import DicomError
from shared_model.vocabulary import Laterality, View

MAX_FILE_BYTES = 2**30

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
    [0, 1]. Bits beyond ``BitsStored``, which old files use for overlays, are ignored.

    Returns:
        Pixels ``(Rows, Columns)``; ``value_range`` is what the stored bits can reach after those transforms.

    Raises:
        DicomError: the file is no such image, is damaged, or contradicts itself.
    """
    with _errors_naming(path):
        dataset = _read_dataset(path)
        pixel_format = read_pixel_format(dataset)
        stored = stored_values(path, dataset, pixel_format)
        table = grey_table(dataset, pixel_format)
        return GreyImage(
            pixels=table[stored - pixel_format.smallest],
            value_range=(float(table.min()), float(table.max())),
            padding=padding_mask(dataset, stored, pixel_format),
            laterality=_laterality(dataset),
            view=_view(dataset),
            series_description=str(dataset.get("SeriesDescription") or ""),
        )


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=_FATAL_WARNINGS, category=UserWarning)
            yield
    except DicomError as error:
        raise DicomError(f"{path}: {error}") from error
    except _READ_ERRORS as error:
        cause = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise DicomError(f"{path}: Expected a readable DICOM image, got {cause}") from error


def _read_dataset(path: Path) -> Dataset:
    if not path.is_file():
        raise DicomError("Expected a file.")
    num_bytes = path.stat().st_size
    if num_bytes > MAX_FILE_BYTES:
        raise DicomError(f"Expected file size={num_bytes} <= {MAX_FILE_BYTES} bytes.")
    meta = read_file_meta_info(path)
    expect(
        meta.get("TransferSyntaxUID") in READABLE_SYNTAXES,
        meta,
        "TransferSyntaxUID",
        "to be uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000",
    )
    return dcmread(path)


def _laterality(dataset: Dataset) -> Laterality | None:
    """Return the one breast, or ``None`` where the file says nothing, both (B) or unpaired (U)."""
    sides = {"L": Laterality.LEFT, "R": Laterality.RIGHT}
    named = set()
    for keyword in ("ImageLaterality", "Laterality"):
        value = dataset.get(keyword) or ""
        expect(value in ("", "B", "U", *sides), dataset, keyword, "to be L, R, B or U")
        if value in sides:
            named.add(sides[value])
    expect(len(named) <= 1, dataset, "ImageLaterality", f"to agree with Laterality={dataset.get('Laterality')}")
    return named.pop() if named else None


def _view(dataset: Dataset) -> View | None:
    """Return the projection, or ``None`` where it is another or not said; CBIS-DDSM has it in PatientOrientation."""
    for keyword in ("ViewPosition", "PatientOrientation"):
        value = dataset.get(keyword)
        if value in tuple(View):
            return View(value)
    return None
