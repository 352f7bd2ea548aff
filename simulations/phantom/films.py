"""Draws mammogram films on which masses and calcifications look as their table rows say.

Images are float32 attenuation in [0, 1], brighter is denser, on ``FILM_SHAPE``. A left breast has its chest wall at
the left edge and its nipple to the right; a right breast is the mirror image.

``Lesion.aggressiveness`` shows in ways that no column names and both lesion types share: thin strands that radiate
into the tissue, tissue drawn towards the lesion, a rough texture, a haze round it and a brighter core.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from shared_model.vocabulary import Laterality, LesionType, View
from simulations.phantom.calcifications import draw_calcifications
from simulations.phantom.lesion_window import (
    HALF_SIDE,
    ByteArray,
    FloatArray,
    LesionWindow,
    draw_window,
    logistic,
    rays,
    texture,
)
from simulations.phantom.masses import draw_mass
from simulations.phantom.patients import Lesion

Pixel = TypeVar("Pixel", bound=np.generic)

FILM_SHAPE = (512, 384)
"""Rows, columns."""
_GLANDULAR_LEVEL = {1: 0.95, 2: 0.55, 3: 0.15, 4: -0.35}
"""Texture above this level is glandular tissue, by BI-RADS density."""
_MAX_LESIONS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """One film and the outlines of its lesions, in the order in which these were given."""

    image: FloatArray
    """``FILM_SHAPE``, in [0, 1]; 0 is background."""
    masks: tuple[ByteArray, ...]
    """``FILM_SHAPE`` each, 0 or 255."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tissue:
    """A breast without lesions."""

    image: FloatArray
    inside: FloatArray
    """1 in the breast, 0 outside."""
    nipple: tuple[float, float]
    """(x, y)."""


def draw_film(
    lesions: Sequence[Lesion], *, density: int, view: View, laterality: Laterality, rng: np.random.Generator
) -> Film:
    """Draw one view of one breast with its lesions.

    Args:
        lesions: at most three, so that they do not overlap.
        density: BI-RADS density, 1 to 4.
        view: MLO films show the pectoral muscle.
        laterality: which breast.
        rng: draws everything that the row leaves open.

    Raises:
        ValueError: ``density`` or the number of lesions is out of bounds.
    """
    if density not in _GLANDULAR_LEVEL:
        raise ValueError(f"Expected density={density} in [1, 4].")
    if len(lesions) > _MAX_LESIONS:
        raise ValueError(f"Expected number of lesions={len(lesions)} <= {_MAX_LESIONS}.")
    tissue = _draw_tissue(density, view, rng)
    image, masks = tissue.image, []
    for lesion, centre in zip(lesions, _lesion_centres(len(lesions), tissue, rng), strict=True):
        image, mask = _add_lesion(image, lesion, centre, nipple=tissue.nipple, rng=rng)
        masks.append(mask)
    image = np.clip(image, 0, 1) * tissue.inside
    is_mirrored = laterality is Laterality.RIGHT
    return Film(
        image=_mirror(image) if is_mirrored else image,
        masks=tuple(_mirror(mask) if is_mirrored else mask for mask in masks),
    )


def _mirror(image: NDArray[Pixel]) -> NDArray[Pixel]:
    return np.ascontiguousarray(image[:, ::-1])


def _draw_tissue(density: int, view: View, rng: np.random.Generator) -> _Tissue:
    """Draw a left breast without lesions: skin line, glandular tissue by density, strands, and the pectoral muscle."""
    rows, columns = FILM_SHAPE
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    middle = rows * (rng.uniform(0.46, 0.54) if view is View.CC else rng.uniform(0.52, 0.58))
    half, depth = rows * rng.uniform(0.40, 0.45), columns * rng.uniform(0.72, 0.86)
    edge = depth * np.sqrt(np.clip(1 - np.abs((y - middle) / half) ** 2.3, 0, None))
    inside = (x < edge).astype(np.uint8)
    from_skin = cv2.distanceTransform(np.pad(inside, ((1, 1), (200, 1)), mode="edge"), cv2.DIST_L2, 3)[1:-1, 200:-1]
    thickness = 1 - np.exp(-from_skin / 30)
    fan = np.exp(-(((x - 0.45 * depth) / (0.42 * depth)) ** 2) - ((y - middle) / (0.62 * half)) ** 2)
    gland = logistic(4 * (texture(FILM_SHAPE, 90, rng, octaves=5) + 1.6 * fan - 1 - _GLANDULAR_LEVEL[density]))
    strands = np.exp(-np.abs(texture(FILM_SHAPE, 40, rng, octaves=3)) / 0.12)
    image = 0.20 + 0.18 * gland + 0.04 * strands + 0.02 * texture(FILM_SHAPE, 10, rng, octaves=3)
    if view is View.MLO:
        image += 0.22 * logistic((0.30 * columns - x - 0.45 * y + 10 * rng.standard_normal()) / 5)
    return _Tissue(
        image=np.asarray(image * thickness, dtype=np.float32), inside=inside.astype(np.float32), nipple=(depth, middle)
    )


def _lesion_centres(count: int, tissue: _Tissue, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return ``(x, y)`` of places in the breast, one above the other where there are several."""
    depth, middle = tissue.nipple
    offsets = (np.arange(count) - (count - 1) / 2) * 110 + rng.uniform(-25, 25)
    return [(round(depth * rng.uniform(0.36, 0.56)), round(middle + offset)) for offset in offsets]


def _add_lesion(
    image: FloatArray, lesion: Lesion, centre: tuple[int, int], *, nipple: tuple[float, float], rng: np.random.Generator
) -> tuple[FloatArray, ByteArray]:
    """Return the film with the lesion drawn into it, and its mask."""
    x, y = centre
    padded = np.pad(image, HALF_SIDE)
    part = (slice(y, y + 2 * HALF_SIDE), slice(x, x + 2 * HALF_SIDE))
    window = draw_window(lesion, np.arctan2(nipple[1] - y, nipple[0] - x), rng)
    is_mass = lesion.lesion_type is LesionType.MASS
    drawn = (draw_mass if is_mass else draw_calcifications)(lesion, window, rng)
    padded[part] = _retracted(padded[part], window, lesion) + _aggressive_signs(window, rng) + drawn.attenuation
    mask = np.zeros(padded.shape, dtype=np.uint8)
    mask[part] = drawn.mask
    inner = (slice(HALF_SIDE, -HALF_SIDE), slice(HALF_SIDE, -HALF_SIDE))
    return np.ascontiguousarray(padded[inner]), np.ascontiguousarray(mask[inner])


def _retracted(part: FloatArray, window: LesionWindow, lesion: Lesion) -> FloatArray:
    """Return the tissue drawn towards the centre, as round a scirrhous lesion or an architectural distortion."""
    strength = 0.5 * window.aggressiveness + 0.35 * ("ARCHITECTURAL_DISTORTION" in lesion.shape_or_type)
    stretch = 1 + strength * np.exp(-((window.distance / (2.0 * window.radius)) ** 2))
    along = (window.distance * stretch).astype(np.float32)
    x = HALF_SIDE + along * np.cos(window.angle)
    y = HALF_SIDE + along * np.sin(window.angle)
    return np.asarray(cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), dtype=np.float32)


def _aggressive_signs(window: LesionWindow, rng: np.random.Generator) -> FloatArray:
    """Return what ``aggressiveness`` adds round lesions of either type."""
    strength = window.aggressiveness
    reach = window.distance / window.radius
    strands = rays(window, round(20 * strength), length=(1.3, 2.2), rng=rng)
    rough = window.texture * np.exp(-((reach / 1.3) ** 2))
    haze = np.exp(-((reach / 1.5) ** 2))
    return np.asarray(0.11 * strands + (0.075 * strength) * rough + (0.16 * strength) * haze, dtype=np.float32)
