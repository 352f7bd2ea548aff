"""The square in which a lesion is drawn, and the strokes that masses and calcifications share."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from simulations.phantom.patients import Lesion

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]

HALF_SIDE = 96
"""Half the side of the square, pixels."""
LESION_RADIUS = (17.0, 30.0)
"""Pixels; masses then span 7 to 12 % of the film's height, as those of CBIS-DDSM do."""
SUBPIXEL_BITS = 4
"""Fractional bits of the coordinates that OpenCV's drawing takes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LesionWindow:
    """The surroundings of a lesion's centre; arrays are ``(2 * HALF_SIDE, 2 * HALF_SIDE)``."""

    distance: FloatArray
    """From the centre, pixels."""
    angle: FloatArray
    """[-pi, pi]; 0 points to the nipple's side, pi / 2 down."""
    texture: FloatArray
    """Unit-variance noise of a few pixels."""
    radius: float
    """Of the lesion, pixels."""
    contrast: float
    """Grows with subtlety: 5 is obvious."""
    aggressiveness: float
    """``Lesion.aggressiveness`` with some noise, squashed to (0, 1)."""
    to_nipple: float
    """Direction of the nipple, radians."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnLesion:
    """What a lesion adds to its window, and where it lies; arrays are ``(2 * HALF_SIDE, 2 * HALF_SIDE)``."""

    attenuation: FloatArray
    """Added to the tissue."""
    mask: ByteArray
    """0 or 255."""


def draw_window(lesion: Lesion, to_nipple: float, rng: np.random.Generator) -> LesionWindow:
    """Draw what is left open about the surroundings of ``lesion``; ``to_nipple`` is a direction in radians."""
    y, x = np.mgrid[-HALF_SIDE:HALF_SIDE, -HALF_SIDE:HALF_SIDE].astype(np.float32)
    return LesionWindow(
        distance=np.hypot(x, y),
        angle=np.arctan2(y, x),
        texture=texture(x.shape, 5, rng, octaves=3),
        radius=rng.uniform(*LESION_RADIUS),
        contrast=0.13 + 0.015 * lesion.subtlety,
        aggressiveness=float(1 / (1 + np.exp(-1.1 * lesion.aggressiveness - 0.15 * rng.standard_normal()))),
        to_nipple=to_nipple,
    )


def texture(shape: tuple[int, int], coarsest: int, rng: np.random.Generator, *, octaves: int) -> FloatArray:
    """Return noise ``shape`` of mean 0 and variance 1 on ``octaves`` scales.

    The first scale is ``coarsest`` pixels wide; each further one is half as wide and 0.6 times as strong as the last.
    """
    rows, columns = shape
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(octaves):
        cell = max(1.0, coarsest / 2**octave)
        grid = rng.standard_normal((int(rows / cell) + 3, int(columns / cell) + 3), dtype=np.float32)
        scaled = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC)
        total += np.float32(0.6**octave) * scaled
    return np.asarray((total - total.mean()) / total.std(), dtype=np.float32)


def logistic(values: FloatArray) -> FloatArray:
    """Return ``1 / (1 + exp(-values))``, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)), dtype=np.float32)


def rays(window: LesionWindow, count: int, *, length: tuple[float, float], rng: np.random.Generator) -> FloatArray:
    """Return ``count`` lines from the centre outwards, in [0, 1], fading with the distance.

    Args:
        window: where to draw.
        count: of lines, in random directions.
        length: shortest and longest, in radii of the lesion.
        rng: draws directions, lengths and bends.
    """
    canvas = np.zeros(window.distance.shape, dtype=np.uint8)
    for angle, reach in zip(rng.uniform(-np.pi, np.pi, count), rng.uniform(*length, count), strict=True):
        steps = np.linspace(0.2, reach, 6) * window.radius
        bend = angle + 0.12 * np.cumsum(rng.standard_normal(6)) * 0.5
        points = np.stack([np.cos(bend), np.sin(bend)], axis=1) * steps[:, None]
        cv2.polylines(canvas, [fixed_point(points)], False, 255, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    fade = np.exp(-0.7 * np.clip(window.distance / window.radius - 0.8, 0, None))
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.7) / np.float32(255) * fade, dtype=np.float32)


def fixed_point(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Turn offsets from the centre, ``(N, 2)`` as (x, y), into window coordinates in units of 1 / 16 pixel."""
    return np.asarray(np.rint((points + HALF_SIDE) * 2**SUBPIXEL_BITS), dtype=np.int32)
