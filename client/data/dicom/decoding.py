"""The Image Pixel module of a DICOM file (PS3.3 C.7.6.3): its format, checked, and its stored values, decoded.

Nothing is decoded before the sizes that file and codestream claim have been checked, so that a damaged or hostile file
cannot make a decoder take all memory. What is compressed is decoded in a child process, which may crash.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom import uid as transfer_syntax
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import Tag

from client.data.dicom.attributes import expect, read_integer
from client.data.dicom.codestreams import FrameHeader, jpeg_2000_header, jpeg_frame, rle_segments
from client.data.dicom.decoder_pool import Frame, decode
from client.data.image_files import MAX_SIDE, require_size
from shared_model.errors import DicomError

_NATIVE = (
    transfer_syntax.ImplicitVRLittleEndian,
    transfer_syntax.ExplicitVRLittleEndian,
    transfer_syntax.ExplicitVRBigEndian,
)
# One decoder each, so that values do not depend on what else is installed. Deflated files are left out: the whole
# data set would be inflated before any bound could be checked.
_DECODERS = {
    transfer_syntax.RLELossless: "rle",
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
IntArray = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """Checked attributes of the Image Pixel module (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    bits_allocated: int
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
    rows, columns = (read_integer(dataset, keyword, 1, MAX_SIDE) for keyword in ("Rows", "Columns"))
    require_size(rows, columns)
    return PixelFormat(
        rows=rows,
        columns=columns,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        is_signed=bool(read_integer(dataset, "PixelRepresentation", 0, 1)),
        is_inverted=is_inverted,
    )


def stored_values(dataset: Dataset, pixel_format: PixelFormat) -> IntArray:
    """Return the decoded values ``(Rows, Columns)``, int32, in [smallest, largest] of ``pixel_format``.

    Raises:
        DicomError: the pixel data are cut short, have another size than claimed, or cannot be decoded.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    shape = (pixel_format.rows, pixel_format.columns)
    if syntax in _DECODERS:
        stored = decode(_checked_frame(dataset, pixel_format)).astype(np.int32)
    else:
        num_bytes = shape[0] * shape[1] * pixel_format.bits_allocated // 8
        if len(dataset.PixelData) < num_bytes:
            raise DicomError(
                f"Expected PixelData {Tag('PixelData')} of {num_bytes} bytes, got {len(dataset.PixelData)}: the file "
                "is cut short; copy or export it again."
            )
        stored = get_decoder(syntax).as_array(dataset)[0].astype(np.int32)
    if stored.shape != shape:
        raise DicomError(f"Expected PixelData {Tag('PixelData')} of shape={stored.shape} == {shape}.")
    stored &= (1 << pixel_format.bits_stored) - 1
    if pixel_format.is_signed:
        sign = 1 << pixel_format.bits_stored - 1
        stored = (stored ^ sign) - sign
    return stored


def _checked_frame(dataset: Dataset, pixel_format: PixelFormat) -> Frame:
    """Return the frame of a compressed image whose own header agrees with the file's attributes."""
    syntax = dataset.file_meta.TransferSyntaxUID
    content = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if syntax == transfer_syntax.RLELossless:
        if rle_segments(content) != pixel_format.bits_allocated // 8:
            raise DicomError(
                f"Expected {rle_segments(content)} RLE segments to be one for each of "
                f"BitsAllocated={pixel_format.bits_allocated} / 8 bytes."
            )
    else:
        _check_codestream(content, pixel_format, is_jpeg_2000=syntax in _JPEG_2000)
    if syntax == transfer_syntax.JPEGExtended12Bit:
        # GDCM's library for 12 bits is not driven by pydicom: what comes out has eight.
        is_readable = pixel_format.bits_stored == jpeg_frame(content).header.precision == 8
        expect(is_readable, dataset, "BitsStored", "to be 8 in JPEG Extended; export it as JPEG Lossless")
    return Frame(
        content=content,
        syntax=str(syntax),
        plugin=_DECODERS[syntax],
        rows=pixel_format.rows,
        columns=pixel_format.columns,
        bits_allocated=pixel_format.bits_allocated,
        bits_stored=pixel_format.bits_stored,
        is_signed=pixel_format.is_signed,
        photometric_interpretation=dataset.PhotometricInterpretation,
    )


def _check_codestream(frame: bytes, pixel_format: PixelFormat, *, is_jpeg_2000: bool) -> None:
    """Refuse a cut codestream, and one whose own size would have the decoder allocate more than was checked."""
    if not frame.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise DicomError(f"Expected PixelData {Tag('PixelData')} to end with an end-of-image marker.")
    header = jpeg_2000_header(frame) if is_jpeg_2000 else jpeg_frame(frame).header
    expected = FrameHeader(pixel_format.rows, pixel_format.columns, 1, header.precision)
    if header != expected:
        raise DicomError(f"Expected codestream (rows, columns, components)={header[:3]} == {expected[:3]}.")
    if header.precision > pixel_format.bits_allocated:
        raise DicomError(
            f"Expected codestream precision={header.precision} <= BitsAllocated={pixel_format.bits_allocated}."
        )
