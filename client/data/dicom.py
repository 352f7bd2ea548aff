"""One DICOM file -> grey values and the facts that a mammogram's reader needs; the only door to pydicom at a site.

Whatever a file may hold, reading it ends in a ``GreyImage`` or in a ``DicomError`` of one line that names file,
attribute, value and what was expected. "PS3.x" is the DICOM standard, part x.
"""

import math
import reprlib
import struct
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom import uid as transfer_syntax
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import Tag

from shared_model.data.preprocessing import GreyImage
from shared_model.errors import DicomError
from shared_model.vocabulary import Laterality, View

MAX_SIDE = 20_000
"""Largest accepted number of rows or columns; the largest films of CBIS-DDSM have about 7,000."""
MAX_FILE_BYTES = 2**30

_NATIVE = (
    transfer_syntax.ImplicitVRLittleEndian,
    transfer_syntax.ExplicitVRLittleEndian,
    transfer_syntax.ExplicitVRBigEndian,
)
# One decoder each, so that values do not depend on what else is installed. Deflated files are left out: the whole
# data set would be inflated before any bound could be checked.
_DECODERS = {
    transfer_syntax.RLELossless: "pydicom",
    transfer_syntax.JPEGBaseline8Bit: "gdcm",
    transfer_syntax.JPEGExtended12Bit: "gdcm",
    transfer_syntax.JPEGLossless: "gdcm",
    transfer_syntax.JPEGLosslessSV1: "gdcm",
    transfer_syntax.JPEGLSLossless: "pyjpegls",
    transfer_syntax.JPEGLSNearLossless: "pyjpegls",
    transfer_syntax.JPEG2000Lossless: "gdcm",
    transfer_syntax.JPEG2000: "gdcm",
}
_JPEG_2000 = (transfer_syntax.JPEG2000Lossless, transfer_syntax.JPEG2000)
_DECODE_SECONDS = 120
_GDCM_SCRIPT = """
import sys
from pydicom import dcmread
from pydicom.pixels import get_decoder
dataset = dcmread(sys.argv[1])
decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
pixels, _ = decoder.as_array(dataset, decoding_plugin="gdcm")
sys.stdout.buffer.write(pixels.astype("<i4").tobytes())
"""
# Start-of-frame markers of ISO/IEC 10918-1, table B.1, and of JPEG-LS (ISO/IEC 14495-1, C.1.1).
_START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7})

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
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class _PixelFormat:
    """Checked attributes of the Image Pixel module (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    bits_stored: int
    is_signed: bool
    is_inverted: bool
    """MONOCHROME1: the smallest value is shown white."""

    @property
    def smallest(self) -> int:
        """Smallest value that the stored bits can hold."""
        return -(1 << self.bits_stored - 1) if self.is_signed else 0

    @property
    def largest(self) -> int:
        """Largest value that the stored bits can hold."""
        return self.smallest + (1 << self.bits_stored) - 1


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
        pixel_format = _pixel_format(dataset)
        stored = _stored_values(path, dataset, pixel_format)
        table = _grey_values(dataset, pixel_format)
        return GreyImage(
            pixels=table[stored - pixel_format.smallest],
            value_range=(float(table.min()), float(table.max())),
            padding=_padding(dataset, stored, pixel_format),
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


def _expect(is_met: bool, dataset: Dataset, keyword: str, expectation: str) -> None:
    if not is_met:
        value = reprlib.repr(dataset[keyword].value) if keyword in dataset else "missing"
        raise DicomError(f"Expected {keyword} {Tag(keyword)}={value} {expectation}.")


def _integer(dataset: Dataset, keyword: str, smallest: int, largest: int) -> int:
    value = dataset.get(keyword)
    is_met = isinstance(value, int) and smallest <= value <= largest
    _expect(is_met, dataset, keyword, f"to be an integer in [{smallest}, {largest}]")
    return int(value)


def _number(dataset: Dataset, keyword: str) -> float | None:
    """Return the first value, or ``None`` where the attribute is absent or empty."""
    value = dataset.get(keyword)
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    if value is None or value == "":
        return None
    number = float(value)
    _expect(math.isfinite(number), dataset, keyword, "to be finite")
    return number


def _numbers(dataset: Dataset, first: str, second: str) -> tuple[float, float] | None:
    """Return two attributes that stand together, or ``None`` where both are absent."""
    one, other = _number(dataset, first), _number(dataset, second)
    if one is None and other is None:
        return None
    if one is None or other is None:
        raise DicomError(f"Expected {first} {Tag(first)} and {second} {Tag(second)} together, got one of them.")
    return one, other


def _read_dataset(path: Path) -> Dataset:
    if not path.is_file():
        raise DicomError("Expected a file.")
    num_bytes = path.stat().st_size
    if num_bytes > MAX_FILE_BYTES:
        raise DicomError(f"Expected file size={num_bytes} <= {MAX_FILE_BYTES} bytes.")
    meta = read_file_meta_info(path)
    _expect(
        meta.get("TransferSyntaxUID") in (*_NATIVE, *_DECODERS),
        meta,
        "TransferSyntaxUID",
        "to be uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000",
    )
    return dcmread(path)


def _pixel_format(dataset: Dataset) -> _PixelFormat:
    for keyword in ("FloatPixelData", "DoubleFloatPixelData"):
        _expect(keyword not in dataset, dataset, keyword, "to be absent: floats have no largest stored value")
    _expect(bool(dataset.get("PixelData")), dataset, "PixelData", "to hold an image")
    _integer(dataset, "SamplesPerPixel", 1, 1)
    _expect(
        dataset.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2"),
        dataset,
        "PhotometricInterpretation",
        "to be MONOCHROME1 or MONOCHROME2",
    )
    if dataset.get("NumberOfFrames") is not None:
        _integer(dataset, "NumberOfFrames", 1, 1)
    bits_allocated = _integer(dataset, "BitsAllocated", 8, 16)
    _expect(bits_allocated in (8, 16), dataset, "BitsAllocated", "to be 8 or 16")
    bits_stored = _integer(dataset, "BitsStored", 1, bits_allocated)
    _integer(dataset, "HighBit", bits_stored - 1, bits_stored - 1)
    is_inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    # PS3.3 C.8.11.3.1.2: the shape repeats what the photometric interpretation says.
    _expect(
        dataset.get("PresentationLUTShape", "") in ("", None, ("IDENTITY", "INVERSE")[is_inverted]),
        dataset,
        "PresentationLUTShape",
        f"to agree with PhotometricInterpretation={dataset.PhotometricInterpretation}",
    )
    return _PixelFormat(
        rows=_integer(dataset, "Rows", 1, MAX_SIDE),
        columns=_integer(dataset, "Columns", 1, MAX_SIDE),
        bits_stored=bits_stored,
        is_signed=bool(_integer(dataset, "PixelRepresentation", 0, 1)),
        is_inverted=is_inverted,
    )


def _stored_values(path: Path, dataset: Dataset, pixel_format: _PixelFormat) -> IntArray:
    """Return the decoded values ``(Rows, Columns)`` in [smallest, largest]."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in _DECODERS and syntax != transfer_syntax.RLELossless:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        _check_codestream(frame, pixel_format, is_jpeg_2000=syntax in _JPEG_2000)
    shape = (pixel_format.rows, pixel_format.columns)
    decoder = _DECODERS.get(syntax, "")
    if decoder == "gdcm":
        stored = _decode_apart(path, shape)
    else:
        stored = get_decoder(syntax).as_array(dataset, decoding_plugin=decoder)[0].astype(np.int32)
    if stored.shape != shape:
        raise DicomError(f"Expected PixelData {Tag('PixelData')} of shape={stored.shape} == {shape}.")
    stored &= (1 << pixel_format.bits_stored) - 1
    if pixel_format.is_signed:
        sign = 1 << pixel_format.bits_stored - 1
        stored = (stored ^ sign) - sign
    return stored


def _decode_apart(path: Path, shape: tuple[int, int]) -> IntArray:
    """Decode with GDCM in a process of its own: some damaged codestreams make GDCM abort its process."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", _GDCM_SCRIPT, str(path)]
    try:
        process = subprocess.run(command, capture_output=True, check=False, timeout=_DECODE_SECONDS)  # noqa: S603 our own script
    except subprocess.TimeoutExpired as error:
        raise DicomError(f"Expected PixelData {Tag('PixelData')} to be decoded in {_DECODE_SECONDS} s.") from error
    complaint = process.stderr.decode(errors="replace").strip()
    # The JPEG library only mutters about damaged data, and goes on.
    if process.returncode != 0 or "Corrupt JPEG data" in complaint:
        cause = textwrap.shorten(complaint.rpartition("\n")[2], 200)
        raise DicomError(f"Expected PixelData {Tag('PixelData')} that GDCM can decode, got {cause}")
    return np.frombuffer(process.stdout, dtype="<i4").astype(np.int32).reshape(shape)


def _check_codestream(frame: bytes, pixel_format: _PixelFormat, *, is_jpeg_2000: bool) -> None:
    """Refuse a cut codestream, and one whose own size would have the decoder allocate more than was checked."""
    if not frame.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise DicomError(f"Expected PixelData {Tag('PixelData')} to end with an end-of-image marker.")
    shape = _jpeg_2000_shape(frame) if is_jpeg_2000 else _jpeg_shape(frame)
    expected = (pixel_format.rows, pixel_format.columns, 1)
    if shape != expected:
        raise DicomError(f"Expected codestream (rows, columns, components)={shape} == {expected}.")


def _jpeg_2000_shape(frame: bytes) -> tuple[int, int, int]:
    """Read the SIZ segment (ISO/IEC 15444-1, A.5.1)."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise DicomError("Expected a JPEG 2000 codestream to start with SOC and SIZ.")
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    (num_components,) = struct.unpack_from(">H", frame, start + 40)
    return bottom - top, right - left, num_components


def _jpeg_shape(frame: bytes) -> tuple[int, int, int]:
    """Walk the marker segments (ISO/IEC 10918-1, B.1.1) to the frame header (B.2.2)."""
    position = 2
    while True:
        prefix, marker, length = struct.unpack_from(">BBH", frame, position)
        if prefix != 0xFF or length < 2:
            raise DicomError(f"Expected a JPEG marker at byte {position} of the codestream.")
        if marker in _START_OF_FRAME:
            rows, columns, num_components = struct.unpack_from(">HHB", frame, position + 5)
            return rows, columns, num_components
        position += 2 + length


def _grey_values(dataset: Dataset, pixel_format: _PixelFormat) -> NDArray[np.float32]:
    """Return the grey value of every stored value from smallest to largest, ``(2 ** bits_stored,)``."""
    values = np.arange(pixel_format.smallest, pixel_format.largest + 1, dtype=np.float64)
    values = _apply_voi(_apply_modality(values, dataset), dataset)
    if pixel_format.is_inverted:
        values = values.min() + values.max() - values
    table = values.astype(np.float32)
    if not np.isfinite(table).all() or table.min() == table.max():
        raise DicomError("Expected Modality and VOI LUT to map stored values to finite values, not all equal.")
    return table


def _apply_modality(values: FloatArray, dataset: Dataset) -> FloatArray:
    """PS3.3 C.11.1: a look-up table, or slope and intercept."""
    if dataset.get("ModalityLUTSequence"):
        return _look_up(values, dataset, "ModalityLUTSequence")
    rescale = _numbers(dataset, "RescaleSlope", "RescaleIntercept")
    if rescale is None:
        return values
    slope, intercept = rescale
    return values * slope + intercept


def _apply_voi(values: FloatArray, dataset: Dataset) -> FloatArray:
    """PS3.3 C.11.2: a look-up table, or a window."""
    if dataset.get("VOILUTSequence"):
        return _look_up(values, dataset, "VOILUTSequence")
    window = _numbers(dataset, "WindowCenter", "WindowWidth")
    if window is None:
        return values
    center, width = window
    function = dataset.get("VOILUTFunction") or "LINEAR"
    _expect(function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"), dataset, "VOILUTFunction", "to be a defined term")
    if function == "LINEAR":
        _expect(width >= 1, dataset, "WindowWidth", ">= 1")
        return _linear_window(values, center - 0.5, width - 1)  # C.11.2.1.2.1
    _expect(width > 0, dataset, "WindowWidth", "> 0")
    if function == "LINEAR_EXACT":
        return _linear_window(values, center, width)  # C.11.2.1.3.2
    # C.11.2.1.3.1, 1 / (1 + exp(-4 (x - c) / w)), in a form that cannot overflow.
    return (1 + np.tanh(2 * (values - center) / width)) / 2


def _linear_window(values: FloatArray, center: float, width: float) -> FloatArray:
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _look_up(values: FloatArray, dataset: Dataset, keyword: str) -> FloatArray:
    """Map through LUT Descriptor and LUT Data (PS3.3 C.11.1.1.1); beyond the table its first or last entry counts."""
    item = dataset[keyword].value[0]
    _expect(len(item.LUTDescriptor) == 3, item, "LUTDescriptor", "to have 3 values")
    # The descriptor's VR is US or SS: a count, or a bit depth, may come out negative, a first value too large.
    num_entries = item.LUTDescriptor[0] % 65536 or 65536
    first = item.LUTDescriptor[1]
    if first >= 32768 and values.min() < 0:
        first -= 65536
    data = item.LUTData
    if isinstance(data, bytes):
        is_byte = len(data) < 2 * num_entries
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        entries = np.frombuffer(data, dtype=np.uint8 if is_byte else f"{order}u2")
    else:
        entries = np.atleast_1d(np.asarray(data, dtype=np.uint16))
    _expect(len(entries) >= num_entries, item, "LUTData", f"to have {num_entries} entries")
    index = np.clip(np.rint(values) - first, 0, num_entries - 1)
    table: FloatArray = entries[index.astype(np.int64)].astype(np.float64)
    return table


def _padding(dataset: Dataset, stored: IntArray, pixel_format: _PixelFormat) -> NDArray[np.bool_]:
    """Return where stored values mean "no image" (PS3.3 C.7.5.1.1.2: value and limit belong to the range)."""
    if dataset.get("PixelPaddingValue") is None:
        return np.zeros(stored.shape, dtype=bool)
    value = _padding_value(dataset, "PixelPaddingValue", pixel_format)
    limit = value
    if dataset.get("PixelPaddingRangeLimit") is not None:
        limit = _padding_value(dataset, "PixelPaddingRangeLimit", pixel_format)
    return (stored >= min(value, limit)) & (stored <= max(value, limit))


def _padding_value(dataset: Dataset, keyword: str, pixel_format: _PixelFormat) -> int:
    value = _integer(dataset, keyword, -32768, 65535)
    if pixel_format.is_signed and value >= 32768:  # written with VR US
        value -= 65536
    _expect(
        pixel_format.smallest <= value <= pixel_format.largest,
        dataset,
        keyword,
        f"to be a stored value in [{pixel_format.smallest}, {pixel_format.largest}]",
    )
    return value


def _laterality(dataset: Dataset) -> Laterality | None:
    """Return the one breast, or ``None`` where the file says nothing, both (B) or unpaired (U)."""
    sides = {"L": Laterality.LEFT, "R": Laterality.RIGHT}
    found = set()
    for keyword in ("ImageLaterality", "Laterality"):
        value = dataset.get(keyword) or ""
        _expect(value in ("", "B", "U", *sides), dataset, keyword, "to be L, R, B or U")
        if value in sides:
            found.add(sides[value])
    _expect(len(found) <= 1, dataset, "ImageLaterality", f"to agree with Laterality={dataset.get('Laterality')}")
    return found.pop() if found else None


def _view(dataset: Dataset) -> View | None:
    """Return the projection, or ``None`` where it is another or not said; CBIS-DDSM has it in PatientOrientation."""
    for keyword in ("ViewPosition", "PatientOrientation"):
        value = dataset.get(keyword)
        if value in tuple(View):
            return View(value)
    return None
