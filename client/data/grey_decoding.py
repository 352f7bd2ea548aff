"""Grey picture files of other kinds than DICOM, decoded by OpenCV after their headers were checked."""

import cv2
import numpy as np

from client.data.preprocessing import GreyImage
from shared_model.errors import DicomError


def decode_grey(content: bytes, *, kind: str, rows: int, columns: int, bits: int) -> GreyImage:
    """Decode the ``content`` of a grey file; ``value_range`` is that of its ``bits``, 8 or 16.

    Args:
        content: of the whole file.
        kind: of the file, for messages.
        rows: by its header, as the next two.
        columns: see ``rows``.
        bits: of a pixel.

    Raises:
        DicomError: it cannot be decoded, or to another picture than the header says.
    """
    try:
        decoded = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None or decoded.shape != (rows, columns) or decoded.dtype != f"uint{bits}":
            raise DicomError(f"Expected a {kind} file whose image data can be decoded.")
        return GreyImage(
            pixels=decoded.astype(np.float32),
            value_range=(0.0, float(2**bits - 1)),
            padding=np.zeros(decoded.shape, dtype=bool),
        )
    except (cv2.error, MemoryError) as error:
        raise DicomError(f"Expected a {kind} file that can be decoded, got {type(error).__name__}.") from error
