"""The headers of compressed frames, read before any decoder sees them: what size a codestream itself claims to have."""

import struct
from typing import NamedTuple

from shared_model.errors import DicomError

# Start-of-frame markers of ISO/IEC 10918-1, table B.1, and of JPEG-LS (ISO/IEC 14495-1, C.1.1).
_START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7})
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
"""TEM, the restart markers and the start of an image (ISO/IEC 10918-1, B.1.1.3)."""


class FrameHeader(NamedTuple):
    """What a codestream says of its own frame."""

    rows: int
    columns: int
    num_components: int
    precision: int
    """Bits of a sample."""


class JpegFrame(NamedTuple):
    """The frame header of a JPEG or JPEG-LS codestream, and where it stands."""

    marker: int
    """Second byte of the marker, which names the process (ISO/IEC 10918-1, table B.1)."""
    header: FrameHeader
    position: int
    """Byte after the marker."""


def jpeg_frame(frame: bytes) -> JpegFrame:
    """Walk the marker segments of a JPEG or JPEG-LS codestream to its frame header (ISO/IEC 10918-1, B.1.1 and B.2.2).

    Raises:
        DicomError: there is none.
    """
    position = 0
    try:
        while True:
            if frame[position] != 0xFF:
                raise DicomError(f"Expected a JPEG marker at byte {position} of the codestream.")
            # B.1.1.2: any number of bytes 0xFF may fill the space before a marker.
            while frame[position] == 0xFF:
                position += 1
            marker = frame[position]
            position += 1
            if marker in _WITHOUT_LENGTH:
                continue
            (length,) = struct.unpack_from(">H", frame, position)
            if length < 2:
                raise DicomError(f"Expected a JPEG marker segment at byte {position} of the codestream.")
            if marker in _START_OF_FRAME:
                precision, rows, columns, num_components = struct.unpack_from(">BHHB", frame, position + 2)
                return JpegFrame(marker, FrameHeader(rows, columns, num_components, precision), position)
            position += length
    except (IndexError, struct.error) as error:
        raise DicomError("Expected a frame header in the JPEG codestream.") from error


def jpeg_2000_header(frame: bytes) -> FrameHeader:
    """Read the SIZ segment (ISO/IEC 15444-1, A.5.1) of a JPEG 2000 codestream.

    Raises:
        DicomError: there is none.
    """
    start = frame.find(b"\xff\x4f\xff\x51")
    try:
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        num_components, precision = struct.unpack_from(">HB", frame, start + 40)
    except struct.error as error:
        raise DicomError("Expected a whole SIZ segment in the JPEG 2000 codestream.") from error
    if start < 0:
        raise DicomError("Expected a JPEG 2000 codestream to start with SOC and SIZ.")
    return FrameHeader(bottom - top, right - left, num_components, (precision & 0x7F) + 1)


def rle_segments(frame: bytes) -> int:
    """Return the number of segments in an RLE header (PS3.5 G.5).

    Raises:
        DicomError: there is no header, or a segment lies outside the frame or before another.
    """
    try:
        num_segments, *offsets = struct.unpack_from("<16I", frame)
    except struct.error as error:
        raise DicomError("Expected an RLE header of 64 bytes.") from error
    used = offsets[:num_segments]
    if not 1 <= num_segments <= 15 or used[0] < 64 or used != sorted(set(used)) or used[-1] >= len(frame):
        raise DicomError(f"Expected an RLE header with offsets in order, got {num_segments} segments at {used}.")
    return int(num_segments)
