"""Grey values -> network input: pure functions of arrays, the same at every site.

Images are ``(H, W)`` float32; a normalised image lies in [0, 1], and 0 is the background.
"""

import dataclasses
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from shared_model.config.choices import Denoising, ImageMode, Normalisation
from shared_model.config.site_sections import ImageConfig
from shared_model.vocabulary import Laterality, View

Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Pixel = TypeVar("Pixel", bound=np.generic)

_PERCENTILES = (1, 99)
_FEW_ROWS = 16


class OtherView(StrEnum):
    """Projections that are neither craniocaudal nor mediolateral oblique, as in DICOM's View Position."""

    ML = "ML"
    LM = "LM"
    LMO = "LMO"
    FB = "FB"
    SIO = "SIO"


@dataclass(frozen=True, kw_only=True, eq=False)
class GreyImage:
    """One grey-scale image as its file describes it; more tissue is brighter."""

    pixels: Float32Array
    """``(H, W)``, float32, in ``value_range``."""
    value_range: tuple[float, float]
    """Smallest and largest value that the file's stored bits can reach."""
    padding: BoolArray
    """``(H, W)``, bool: pixels that are no part of the image."""
    laterality: Laterality | None = None
    view: View | None = None
    """Projection that the file names; ``None`` where it is another or not said."""
    other_view: OtherView | None = None
    """The other projection that it names."""
    chest_wall_left: bool | None = None
    """Whether the chest wall is at the left edge, as in a left breast; ``None`` where the file does not say."""
    series_description: str = ""
    pixel_spacing: tuple[float, float] | None = None
    """Rows and columns, in mm at the detector; ``None`` where the file does not say, as scanned films do not."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.size == 0 or self.pixels.dtype != np.float32:
            raise ValueError(f"Expected float32 pixels (H, W), got {self.pixels.dtype} {self.pixels.shape}.")
        if self.padding.shape != self.pixels.shape or self.padding.dtype != np.bool_:
            raise ValueError(
                f"Expected bool padding {self.pixels.shape}, got {self.padding.dtype} {self.padding.shape}."
            )
        smallest, largest = self.value_range
        if not (math.isfinite(smallest) and math.isfinite(largest) and smallest < largest):
            raise ValueError(f"Expected value_range={self.value_range} to be finite and increasing.")


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle of pixels of a film; ``x`` counts columns and ``y`` rows, from the upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.x < 0 or self.y < 0 or self.width < 1 or self.height < 1:
            raise ValueError(f"Expected {self} with x, y >= 0 and width, height >= 1.")


Place = TypeVar("Place", Box, Box | None)


def normalise(
    pixels: Float32Array, value_range: tuple[float, float], method: Normalisation, padding: BoolArray
) -> Float32Array:
    """Map grey values linearly onto [0, 1], clipping outside.

    Args:
        pixels: ``(H, W)``.
        value_range: what becomes 0 and 1 under ``FULL_RANGE``.
        method: the other methods measure the pixels outside ``padding``.
        padding: ``(H, W)``; becomes 0.

    Returns:
        ``(H, W)`` float32; all 0 where the image is constant under ``MIN_MAX`` or ``PERCENTILE``, or all padding.
    """
    if padding.all():
        return np.zeros(pixels.shape, dtype=np.float32)
    smallest, largest = value_range
    if method is Normalisation.MIN_MAX:
        inside = pixels[~padding]
        smallest, largest = float(inside.min()), float(inside.max())
    elif method is Normalisation.PERCENTILE:
        smallest, largest = (float(value) for value in np.percentile(pixels[~padding], _PERCENTILES))
    if smallest == largest:
        return np.zeros(pixels.shape, dtype=np.float32)
    # Before any shrinking: afterwards the last bit would be another, and what was to be clipped averaged in.
    scaled: Float32Array = pixels - np.float32(smallest)
    scaled /= np.float32(largest - smallest)
    np.clip(scaled, 0, 1, out=scaled)
    scaled[padding] = 0
    return scaled


def denoise(image: Float32Array, method: Denoising) -> Float32Array:
    """Smooth a normalised image: 3 x 3 median, or non-local means (Buades et al. 2005; 7 x 7 patches in 21 x 21)."""
    if method is Denoising.NONE:
        return image
    if method is Denoising.MEDIAN:
        return np.asarray(cv2.medianBlur(image, 3), dtype=np.float32)
    # A filter strength of 1 % of the grey scale removes film grain; OpenCV offers 16 bit with the L1 norm only.
    levels = np.rint(image * 65535).astype(np.uint16)
    smoothed = cv2.fastNlMeansDenoising(
        levels, h=[0.01 * 65535], templateWindowSize=7, searchWindowSize=21, normType=cv2.NORM_L1
    )
    return smoothed.astype(np.float32) / np.float32(65535)


def clahe(image: Float32Array, clip_limit: float) -> Float32Array:
    """Equalise the histogram in 8 x 8 tiles with limited contrast (Zuiderveld 1994); a limit of 0 changes nothing.

    The image passes through 256 grey levels: OpenCV's 16-bit variant counts in 65536 bins, and in a tile with fewer
    pixels than bins its limit, at least one count a bin, limits nothing.
    """
    if clip_limit == 0:
        return image
    levels = np.rint(image * 255).astype(np.uint8)
    equalised = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(8, 8)).apply(levels)
    return equalised.astype(np.float32) / np.float32(255)


def resize(image: Float32Array, size: int) -> Float32Array:
    """Scale the longer side to ``size`` and centre the image in a square of zeros ``(size, size)``.

    Shrinking averages over areas, growing interpolates linearly; the shorter side is rounded, to at least one pixel.
    """
    height, width = image.shape
    scale = size / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    scaled = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.zeros((size, size), dtype=np.float32)
    top, left = (size - rows) // 2, (size - columns) // 2
    square[top : top + rows, left : left + columns] = scaled
    return square


def face_left(image: NDArray[Pixel], laterality: Laterality | None) -> NDArray[Pixel]:
    """Mirror a picture that is drawn as a right breast; a left one, or one of unknown side, stays.

    Returns:
        The same pixels seen in another order, no copy: mostly little of a film is used.
    """
    return image[:, ::-1] if laterality is Laterality.RIGHT else image


def turned_left(grey: GreyImage, box: Place, laterality: Laterality | None) -> tuple[GreyImage, Place]:
    """Mirror a picture, and the box that lies on it, whose chest wall is at the right edge.

    What the file says of the chest wall counts; where it is silent, a breast is drawn as ``laterality`` mostly is.
    """
    is_right = laterality is Laterality.RIGHT if grey.chest_wall_left is None else not grey.chest_wall_left
    if not is_right:
        return grey, box
    pixels, padding = face_left(grey.pixels, Laterality.RIGHT), face_left(grey.padding, Laterality.RIGHT)
    if box is not None:
        box = dataclasses.replace(box, x=max(0, pixels.shape[1] - box.x - box.width))
    return dataclasses.replace(grey, pixels=pixels, padding=padding, chest_wall_left=True), box


def is_mask(pixels: Float32Array) -> bool:
    """Return whether an image holds exactly two values, the smaller being 0, as 0/1 and 0/255 masks do.

    A constant image is no mask: it marks nothing or everything. The two values themselves are not compared with 1 or
    255, since a rescale slope or a window may have changed them.
    """
    # A few rows of a film show a third value already.
    some_rows = pixels[:: max(1, len(pixels) // _FEW_ROWS)]
    return _has_only_extremes(some_rows) and bool(pixels.min() == 0 < pixels.max()) and _has_only_extremes(pixels)


def _has_only_extremes(pixels: Float32Array) -> bool:
    return bool(((pixels == pixels.min()) | (pixels == pixels.max())).all())


def mask_box(mask: NDArray[np.generic]) -> Box:
    """Return the smallest box round the non-zero pixels of ``mask``, ``(H, W)``.

    Raises:
        ValueError: there are none.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise ValueError("Expected a mask with a pixel != 0.")
    x, y = int(columns[0]), int(rows[0])
    return Box(x=x, y=y, width=int(columns[-1]) - x + 1, height=int(rows[-1]) - y + 1)


def square_crop(image: NDArray[Pixel], box: Box, context: float) -> NDArray[Pixel]:
    """Cut a square with the centre of ``box`` and ``context`` times its longer side; beyond the film it is 0.

    The side is rounded; where the centre falls between pixels, the square lies half a pixel up or left of it.
    """
    side = max(1, round(context * max(box.width, box.height)))
    top, left = (2 * box.y + box.height - side) // 2, (2 * box.x + box.width - side) // 2
    square = np.zeros((side, side), dtype=image.dtype)
    height, width = image.shape
    rows = slice(max(top, 0), max(min(top + side, height), 0))
    columns = slice(max(left, 0), max(min(left + side, width), 0))
    part = image[rows, columns]
    if part.size:
        row, column = rows.start - top, columns.start - left
        square[row : row + part.shape[0], column : column + part.shape[1]] = part
    return square


@dataclass(frozen=True, kw_only=True)
class SeenSquare:
    """The square of a picture that the network is shown, in pixels of the picture as its file has it."""

    x: int
    """Of its left edge; below 0 where it begins beside the picture, where there is nothing."""
    y: int
    side: int
    """At least 1."""
    is_mirrored: bool
    """The network sees its right edge at the left."""


def seen_square(grey: GreyImage, image: ImageConfig, *, laterality: Laterality | None, box: Box | None) -> SeenSquare:
    """Return which square ``preprocess`` shows with the same arguments, to within one pixel of the network's input."""
    turned, turned_box = turned_left(grey, box, laterality) if image.face_left else (grey, box)
    height, width = grey.pixels.shape
    if turned_box is None:
        side = max(height, width)
        x, y = (width - side) // 2, (height - side) // 2
    else:
        side = max(1, round(image.context * max(turned_box.width, turned_box.height)))
        # As ``square_crop`` rounds.
        x, y = (2 * turned_box.x + turned_box.width - side) // 2, (2 * turned_box.y + turned_box.height - side) // 2
    is_mirrored = turned is not grey
    return SeenSquare(x=width - x - side if is_mirrored else x, y=y, side=side, is_mirrored=is_mirrored)


def preprocess(grey: GreyImage, image: ImageConfig, *, laterality: Laterality | None, box: Box | None) -> Float32Array:
    """Mirror, cut, normalise, denoise, equalise and scale one image.

    Mirrored first, a breast gives the same pixels to the last bit however its picture is drawn. Statistics that
    ``image.normalisation`` needs are those of the cut; pixels beyond the film count as padding.

    Args:
        grey: crop or whole film.
        image: what to do.
        laterality: which breast; ``None`` is never mirrored. Where the file says how the picture is drawn, that counts.
        box: the lesion on the film in ``roi`` mode, within it; otherwise ``None``.

    Returns:
        ``(image.size, image.size)`` float32 in [0, 1].
    """
    if (box is None) == (image.mode is ImageMode.ROI):
        raise ValueError(f"Expected a box in roi mode and in no other, got mode={image.mode}, box={box}.")
    if image.face_left:
        grey, box = turned_left(grey, box, laterality)
    pixels, padding = grey.pixels, grey.padding
    if box is not None:
        pixels, padding = square_crop(pixels, box, image.context), ~square_crop(~padding, box, image.context)
    cut = normalise(pixels, grey.value_range, image.normalisation, padding)
    scaled = resize(clahe(denoise(cut, image.denoising), image.clahe_clip_limit), image.size)
    return np.clip(scaled, 0, 1)
