"""Grey PNG files -> grey values."""

import struct
import zlib
from pathlib import Path

from client.data.grey_decoding import decode_grey
from client.data.image_files import require_size
from client.data.preprocessing import GreyImage
from shared_model.errors import DicomError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY = 0
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})


def num_pixels(content: bytes) -> int:
    """Return how many pixels the first 24 bytes of a PNG file claim."""
    width, height = struct.unpack_from(">II", content.ljust(24, b"\0"), 16)
    return int(width * height)


def read_png(path: Path, content: bytes) -> GreyImage:
    """Read the ``content`` of a grey PNG file of 8 or 16 bits; ``value_range`` is that of its bit depth.

    Raises:
        DicomError: it is another kind of PNG file, is too large, or damaged.
    """
    try:
        return _decode(content)
    except DicomError as error:
        raise DicomError(f"{path}: {error}") from error


def _decode(content: bytes) -> GreyImage:
    width, height, bit_depth, colour_type = _header(content)
    if colour_type != _GREY or bit_depth not in (8, 16):
        raise DicomError(f"Expected colour_type={colour_type}, bit_depth={bit_depth} to be grey, 8 or 16 bit.")
    require_size(height, width)
    return decode_grey(content, kind="PNG", rows=height, columns=width, bits=bit_depth)


def _header(content: bytes) -> tuple[int, int, int, int]:
    """Check every chunk (PNG 3rd ed., 5.3) and return width, height, bit depth and colour type (11.2.1).

    OpenCV expands other depths and colours silently, and what it makes of a cut file depends on its version.
    """
    chunks: list[bytes] = []
    position = len(SIGNATURE)
    while chunks[-1:] != [b"IEND"]:
        length = int.from_bytes(content[position : position + 4], "big")
        body = content[position + 4 : position + 8 + length]
        checksum = content[position + 8 + length : position + 12 + length]
        if len(body) != length + 4 or checksum != zlib.crc32(body).to_bytes(4, "big"):
            raise DicomError(f"Expected a complete PNG chunk at byte {position}.")
        chunks.append(body[:4])
        position += 12 + length
    if chunks[0] != b"IHDR" or chunks.count(b"IHDR") > 1 or len(content) < 33:
        raise DicomError("Expected a PNG file to start with its only header.")
    if _ANIMATION.intersection(chunks):
        raise DicomError("Expected a PNG file of one picture, got an animation.")
    width, height, bit_depth, colour_type = struct.unpack_from(">IIBB", content, 16)
    return width, height, bit_depth, colour_type
