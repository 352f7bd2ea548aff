"""What the grey levels of a picture are like as the network sees it, beside those of other pictures.

A negative, a film stretched in contrast and one that uses few of its levels are read without an error, and move the
scores. Nothing of this leaves the site.
"""

import math
from dataclasses import dataclass

import numpy as np

from client.data.preprocessing import Float32Array
from shared_model.config.choices import ImageMode

FAINT = (
    "use under a tenth of their grey levels, so that the network sees them nearly black, white or of one grey; where "
    "they are many, set data.image.normalisation=percentile"
)
_FAINT_SHARE = 0.1
_BACKGROUND = 0.02
_WHITE = 0.998
_QUANTILES = (0.05, 0.5, 0.95)
_SMALLEST_RANGE = 0.01
"""A picture of one grey is taken to have this range, so that its logarithm exists."""


@dataclass(frozen=True, kw_only=True)
class GreyLevels:
    """Five numbers about one picture, each in [0, 1] but for ``contrast``, in [-1, 1]."""

    dark: float
    """The level that 5 % of what is not background stays below."""
    middle: float
    bright: float
    """The level that 5 % of it is above."""
    contrast: float
    """How much brighter tissue is than what surrounds it: of a film breast over air, of a cut-out its centre over its
    rim. Below 0 for 5 % of the mass patches of CBIS-DDSM, and for 95 % of their negatives."""
    white: float
    """Share of the pixels that are as bright as a file can say, or less by 0.2 % of the scale."""

    @property
    def looks_negative(self) -> bool:
        """Whether tissue is darker than what surrounds it."""
        return self.contrast < 0

    @property
    def log_range(self) -> float:
        """Natural logarithm of the distance from ``dark`` to ``bright``, in [-4.7, 0]."""
        return math.log(self._range)

    @property
    def relative_contrast(self) -> float:
        """``contrast`` in parts of that distance, which no brighter or stronger film changes."""
        return self.contrast / self._range

    @property
    def _range(self) -> float:
        return max(self.bright - self.dark, _SMALLEST_RANGE)


def grey_levels(picture: Float32Array, mode: ImageMode) -> GreyLevels:
    """Summarise a network input ``(size, size)``, in [0, 1], whose chest wall is at the left edge.

    What is nearly 0 is background: beyond the picture, padding, or air.
    """
    tissue = picture[picture > _BACKGROUND]
    if tissue.size == 0:
        return GreyLevels(dark=0, middle=0, bright=0, contrast=0, white=0)
    dark, middle, bright = (float(level) for level in np.quantile(tissue, _QUANTILES))
    contrast = _film_contrast(picture) if mode is ImageMode.FILM else _contrast(picture)
    return GreyLevels(
        dark=dark, middle=middle, bright=bright, contrast=contrast, white=float(np.mean(picture >= _WHITE))
    )


def is_faint(picture: Float32Array) -> bool:
    """Return whether a picture normalised by the full range of its file is nearly black, nearly white or all grey."""
    tissue = picture[picture > _BACKGROUND]
    is_dark_or_bright = tissue.size == 0 or tissue.max() < _FAINT_SHARE or tissue.min() > 1 - _FAINT_SHARE
    return bool(is_dark_or_bright or np.ptp(picture) < _FAINT_SHARE)


def _contrast(picture: Float32Array) -> float:
    size = len(picture)
    is_rim = np.ones(picture.shape, dtype=bool)
    is_rim[size // 8 : -(size // 8), size // 8 : -(size // 8)] = False
    centre = picture[size // 4 : -(size // 4), size // 4 : -(size // 4)]
    return float(np.median(centre) - np.median(picture[is_rim]))


def _film_contrast(picture: Float32Array) -> float:
    """Compare the breast at the chest wall with the air beside it, without what was added to make a square."""
    rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
    film = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = film.shape
    breast = film[height // 4 : height - height // 4, width // 20 : max(1, width // 3)]
    return float(np.median(breast) - np.median(film[:, -max(1, width // 10) :]))
