"""Grey JPEG files -> grey values: the copies in JPEG from which many people start.

They have lost what cannot be had back: 8 of the 16 bits of a film, and what the compression dropped. A network that is
trained on them does not fit the DICOM originals.
"""

import dataclasses
from pathlib import Path

import numpy as np

from client.data.dicom.codestreams import jpeg_frame
from client.data.grey_decoding import decode_grey
from client.data.image_files import require_size
from client.data.preprocessing import Float32Array, GreyImage
from shared_model.errors import DicomError

SIGNATURE = b"\xff\xd8\xff"
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Start of frame: baseline, extended and progressive, with Huffman coding (ITU-T T.81, table B.1)."""
_END = b"\xff\xd9"
_LARGEST = 255.0
_RINGING = 24
"""Grey levels by which compression moves a pixel beside the edge of a mask."""
_FEW = 0.01


def num_pixels(content: bytes) -> int:
    """Return how many pixels a JPEG file claims.

    Raises:
        DicomError: it does not say.
    """
    header = jpeg_frame(content).header
    return header.rows * header.columns


def read_jpeg(path: Path, content: bytes) -> GreyImage:
    """Read the ``content`` of a grey JPEG file of 8 bits; a mask that the compression has blurred has two values again.

    Raises:
        DicomError: it is another kind of JPEG file, is too large, or damaged.
    """
    try:
        height, width = _size(content)
        require_size(height, width)
        grey = decode_grey(content, kind="JPEG", rows=height, columns=width, bits=8)
    except DicomError as error:
        raise DicomError(f"{path}: {error}") from error
    return dataclasses.replace(grey, pixels=_sharp(grey.pixels))


def _size(content: bytes) -> tuple[int, int]:
    """Return height and width by the frame header; OpenCV would turn colour into grey silently."""
    frame = jpeg_frame(content)
    if frame.marker not in _FRAMES:
        raise DicomError("Expected a JPEG file with a frame header of a kind that can be read.")
    if frame.header.precision != 8 or frame.header.num_components != 1:
        raise DicomError("Expected a grey JPEG file of 8 bits; convert it, best from the DICOM original.")
    if content.find(_END, frame.position) < 0:
        # The decoder would fill the rest with grey.
        raise DicomError("Expected a JPEG file that is not cut off.")
    return frame.header.rows, frame.header.columns


def _sharp(pixels: Float32Array) -> Float32Array:
    """Return the two values of a picture that is all but black and white; any other picture as it is."""
    is_white = pixels > _LARGEST / 2
    distance = np.abs(pixels - np.where(is_white, _LARGEST, 0))
    is_mask = is_white.any() and not is_white.all() and float((distance > _RINGING).mean()) <= _FEW
    return np.where(is_white, _LARGEST, 0).astype(np.float32) if is_mask else pixels
