"""The Image Pixel module of a DICOM file (PS3.3 C.7.6.3): its format, checked, and its stored values, decoded.

Nothing is decoded before the sizes that the file claims have been checked, so that a damaged or hostile file cannot
make a decoder take all memory. GDCM decodes in a process of its own, since some damaged images make it abort.
"""

import struct
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom import uid as transfer_syntax
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import Tag

from client.data.dicom.attributes import expect, read_integer
from shared_model.errors import DicomError

MAX_SIDE = 20_000
"""Largest accepted number of rows or columns; the largest films of CBIS-DDSM have about 7,000."""

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
READABLE_SYNTAXES = (*_NATIVE, *_DECODERS)
"""Transfer syntaxes: uncompressed, RLE, JPEG, JPEG-LS and JPEG 2000."""
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
IntArray = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
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


def read_pixel_format(dataset: Dataset) -> PixelFormat:
    """Return the checked attributes of the Image Pixel module.

    Raises:
        DicomError: this is no single grey frame of 8 or 16 bits, or the attributes contradict each other.
    """
    for keyword in ("FloatPixelData", "DoubleFloatPixelData"):
        expect(keyword not in dataset, dataset, keyword, "to be absent: floats have no largest stored value")
    expect(bool(dataset.get("PixelData")), dataset, "PixelData", "to hold an image")
    read_integer(dataset, "SamplesPerPixel", 1, 1)
    expect(
        dataset.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2"),
        dataset,
        "PhotometricInterpretation",
        "to be MONOCHROME1 or MONOCHROME2",
    )
    if dataset.get("NumberOfFrames") is not None:
        read_integer(dataset, "NumberOfFrames", 1, 1)
    bits_allocated = read_integer(dataset, "BitsAllocated", 8, 16)
    expect(bits_allocated in (8, 16), dataset, "BitsAllocated", "to be 8 or 16")
    bits_stored = read_integer(dataset, "BitsStored", 1, bits_allocated)
    read_integer(dataset, "HighBit", bits_stored - 1, bits_stored - 1)
    is_inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    # PS3.3 C.8.11.3.1.2: the shape repeats what the photometric interpretation says.
    expect(
        dataset.get("PresentationLUTShape", "") in ("", None, ("IDENTITY", "INVERSE")[is_inverted]),
        dataset,
        "PresentationLUTShape",
        f"to agree with PhotometricInterpretation={dataset.PhotometricInterpretation}",
    )
    return PixelFormat(
        rows=read_integer(dataset, "Rows", 1, MAX_SIDE),
        columns=read_integer(dataset, "Columns", 1, MAX_SIDE),
        bits_stored=bits_stored,
        is_signed=bool(read_integer(dataset, "PixelRepresentation", 0, 1)),
        is_inverted=is_inverted,
    )


def stored_values(path: Path, dataset: Dataset, pixel_format: PixelFormat) -> IntArray:
    """Return the decoded values ``(Rows, Columns)``, int32, in [smallest, largest] of ``pixel_format``.

    Raises:
        DicomError: the pixel data are cut short, have another size than claimed, or cannot be decoded.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in _DECODERS and syntax != transfer_syntax.RLELossless:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        _check_codestream(frame, pixel_format, is_jpeg_2000=syntax in _JPEG_2000)
    shape = (pixel_format.rows, pixel_format.columns)
    decoder = _DECODERS.get(syntax, "")
    if decoder == "gdcm":
        stored = _decode_in_child(path, shape)
    else:
        stored = get_decoder(syntax).as_array(dataset, decoding_plugin=decoder)[0].astype(np.int32)
    if stored.shape != shape:
        raise DicomError(f"Expected PixelData {Tag('PixelData')} of shape={stored.shape} == {shape}.")
    stored &= (1 << pixel_format.bits_stored) - 1
    if pixel_format.is_signed:
        sign = 1 << pixel_format.bits_stored - 1
        stored = (stored ^ sign) - sign
    return stored


def _decode_in_child(path: Path, shape: tuple[int, int]) -> IntArray:
    """Decode with GDCM in a child process: some damaged codestreams make GDCM abort its process."""
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


def _check_codestream(frame: bytes, pixel_format: PixelFormat, *, is_jpeg_2000: bool) -> None:
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
