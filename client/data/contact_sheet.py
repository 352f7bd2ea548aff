"""Lesions as the network sees them, on one sheet: a person sees at a glance a flipped, an empty or a wrong picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from client.data.preprocessing import Float32Array

_SIDE, _CAPTION, _GAP = 256, 40, 8
"""Pixels: of a picture, of the lines below it, between pictures."""
_COLUMNS = 5
_WHITE, _DARK = 255, 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """What stands in one field of the sheet."""

    caption: tuple[str, str]
    """Two lines; letters that the sheet's font lacks become a question mark."""
    image: Float32Array | None
    """``(size, size)`` in [0, 1]; None where it cannot be read."""

    @property
    def is_empty(self) -> bool:
        """Whether the picture is all of one grey."""
        return self.image is not None and bool(self.image.min() == self.image.max())


def contact_sheet(pictures: Sequence[Picture]) -> bytes:
    """Return a PNG file with the pictures in their order, five in a row.

    Raises:
        ValueError: there is no picture.
    """
    if not pictures:
        raise ValueError("Expected pictures, got none.")
    height, width = _SIDE + _CAPTION + _GAP, _SIDE + _GAP
    num_rows = -(-len(pictures) // _COLUMNS)
    sheet = np.full((num_rows * height + _GAP, min(_COLUMNS, len(pictures)) * width + _GAP), _WHITE, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = (number // _COLUMNS) * height + _GAP, (number % _COLUMNS) * width + _GAP
        sheet[top : top + _SIDE, left : left + _SIDE] = _grey(picture)
        for line, text in enumerate(picture.caption):
            shown = text.encode("ascii", "replace").decode()
            place = (left, top + _SIDE + 16 + 18 * line)
            cv2.putText(sheet, shown, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 0, 1, cv2.LINE_AA)
    is_encoded, content = cv2.imencode(".png", sheet)
    if not is_encoded:
        raise ValueError("Expected a sheet that can be written as PNG.")
    return content.tobytes()


def _grey(picture: Picture) -> NDArray[np.uint8]:
    if picture.image is None:
        crossed = np.full((_SIDE, _SIDE), _DARK, dtype=np.uint8)
        for start, end in (((0, 0), (_SIDE, _SIDE)), ((0, _SIDE), (_SIDE, 0))):
            cv2.line(crossed, start, end, _WHITE, 1, cv2.LINE_AA)
        return crossed
    levels = np.rint(np.clip(picture.image, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.resize(levels, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
