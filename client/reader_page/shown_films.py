"""Films for the screen: decoded once by the code that reads them, then given out in parts of 16 bits."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from client.data.images import read_image
from shared_model.errors import DicomError

WordArray = NDArray[np.uint16]
MAX_PIXELS_AT_ONCE = 4_000_000
"""Of a part as it is sent."""
_MOST_BYTES = 2**28
"""Of films that stay decoded: eight of 5000 x 3000 pixels."""
_WINDOW_QUANTILES = (0.01, 0.998)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownFilm:
    """A film's grey values, 0 to 65535 over the range that its file can hold; more tissue is brighter."""

    pixels: WordArray
    """``(H, W)``."""
    low: int
    """With ``high`` the window in which it is shown first."""
    high: int

    def part(self, x: int, y: int, width: int, height: int, *, step: int) -> WordArray:
        """Return a rectangle of it, ``(ceil(height / step), ceil(width / step))``: means of ``step`` squared pixels.

        Raises:
            ValueError: it is not on the film, or too large to be sent at once.
        """
        rows, columns = self.pixels.shape
        is_on_film = x >= 0 and y >= 0 and width >= 1 and height >= 1 and x + width <= columns and y + height <= rows
        if not is_on_film or not 1 <= step <= 64:
            raise ValueError(f"Expected a part of the film of {columns} x {rows} pixels, at a step of 1 to 64.")
        size = -(-width // step), -(-height // step)
        if size[0] * size[1] > MAX_PIXELS_AT_ONCE:
            raise ValueError(f"Expected at most {MAX_PIXELS_AT_ONCE} pixels at once, got {size[0]} x {size[1]}.")
        cut = self.pixels[y : y + height, x : x + width]
        return np.ascontiguousarray(cut if step == 1 else cv2.resize(cut, size, interpolation=cv2.INTER_AREA))


class ShownFilms:
    """The films that were looked at last, by file and state of the file; one is decoded at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._films: OrderedDict[tuple[Path, object], ShownFilm] = OrderedDict()

    def get(self, path: Path, state: object) -> ShownFilm:
        """Return the film, decoded now or before.

        Raises:
            DicomError: it cannot be decoded; the text does not name the path.
        """
        with self._lock:
            film = self._films.pop((path, state), None)
            if film is None:
                film = _decoded(path)
            self._films[path, state] = film
            while sum(each.pixels.nbytes for each in self._films.values()) > _MOST_BYTES and len(self._films) > 1:
                self._films.popitem(last=False)
            return film


def _decoded(path: Path) -> ShownFilm:
    try:
        grey = read_image(path)
    except DicomError as error:
        raise DicomError(str(error).removeprefix(f"{path}: ")) from error
    smallest, largest = grey.value_range
    levels = (grey.pixels - smallest) * (65535 / (largest - smallest))
    pixels = np.rint(np.clip(levels, 0, 65535)).astype(np.uint16)
    pixels[grey.padding] = 0
    tissue = pixels[::4, ::4]
    tissue = tissue[tissue > 0]
    low, high = (0, 65535) if tissue.size == 0 else np.quantile(tissue, _WINDOW_QUANTILES)
    return ShownFilm(pixels=pixels, low=int(low), high=max(int(low) + 1, int(high)))
