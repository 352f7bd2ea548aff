"""Draws calcifications: bright specks by type, arranged by distribution.

The appearance of each descriptor follows the BI-RADS lexicon (ACR BI-RADS Atlas, 5th ed., 2013), simplified to what a
film of this size can show.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from simulations.phantom.lesion_window import (
    HALF_SIDE,
    SUBPIXEL_BITS,
    ByteArray,
    DrawnLesion,
    LesionWindow,
    fixed_point,
)
from simulations.phantom.patients import Lesion


@dataclass(frozen=True, kw_only=True)
class _SpeckStyle:
    """How the single calcifications of one type look."""

    count: tuple[int, int]
    size: tuple[float, float]
    """Radius, or half the length of lines, pixels."""
    brightness: tuple[float, float]
    outline: str = "disc"
    """``disc``, ``ring``, ``line``, ``branch`` or ``rail``."""


_SPECKS = {
    "AMORPHOUS": _SpeckStyle(count=(25, 45), size=(0.4, 0.7), brightness=(0.25, 0.45)),
    "COARSE": _SpeckStyle(count=(2, 5), size=(2.8, 4.5), brightness=(0.8, 1.0)),
    "DYSTROPHIC": _SpeckStyle(count=(3, 7), size=(2.0, 4.0), brightness=(0.7, 1.0)),
    "EGGSHELL": _SpeckStyle(count=(1, 3), size=(4.5, 8.0), brightness=(0.6, 0.9), outline="ring"),
    "FINE_LINEAR_BRANCHING": _SpeckStyle(count=(9, 18), size=(1.5, 3.5), brightness=(0.5, 0.9), outline="branch"),
    "LARGE_RODLIKE": _SpeckStyle(count=(4, 8), size=(4.0, 7.0), brightness=(0.8, 1.0), outline="line"),
    "LUCENT_CENTER": _SpeckStyle(count=(1, 5), size=(2.5, 4.0), brightness=(0.7, 1.0), outline="ring"),
    "LUCENT_CENTERED": _SpeckStyle(count=(1, 5), size=(2.5, 4.0), brightness=(0.7, 1.0), outline="ring"),
    "PLEOMORPHIC": _SpeckStyle(count=(12, 28), size=(0.5, 1.7), brightness=(0.4, 1.0)),
    "PUNCTATE": _SpeckStyle(count=(12, 25), size=(0.6, 0.9), brightness=(0.55, 0.75)),
    "ROUND_AND_REGULAR": _SpeckStyle(count=(5, 12), size=(1.2, 1.8), brightness=(0.7, 0.9)),
    "VASCULAR": _SpeckStyle(count=(14, 20), size=(1.0, 2.0), brightness=(0.5, 0.8), outline="rail"),
}
_UNNAMED_SPECKS = _SpeckStyle(count=(6, 14), size=(0.6, 1.4), brightness=(0.5, 0.8))


def draw_calcifications(lesion: Lesion, window: LesionWindow, rng: np.random.Generator) -> DrawnLesion:
    """Draw bright specks; the mask is their convex hull with a margin, as a radiologist would circle them."""
    canvas = np.zeros(window.distance.shape, dtype=np.uint8)
    drawn = []
    types = lesion.shape_or_type.split("-")
    for calcification_type in types:
        style = _SPECKS.get(calcification_type, _UNNAMED_SPECKS)
        count = max(1, int(rng.integers(style.count[0], style.count[1] + 1)) // len(types))
        places = (
            _vessel_walls(window, rng)
            if style.outline == "rail"
            else _places(lesion.margins_or_distribution, window, count, rng=rng)
        )
        for place in places:
            _draw_speck(canvas, place, style, rng)
        drawn.append(places)
    dust = _places(lesion.margins_or_distribution, window, round(22 * window.aggressiveness), rng=rng)
    for place in dust:
        _draw_speck(canvas, place, _SpeckStyle(count=(1, 1), size=(0.3, 0.5), brightness=(0.3, 0.6)), rng)
    specks = cv2.GaussianBlur(canvas, (0, 0), 0.6) / np.float32(255)
    hull = cv2.convexHull(np.rint(np.concatenate(drawn) + HALF_SIDE).astype(np.int32))
    mask = cv2.fillConvexPoly(np.zeros_like(canvas), hull, 255)
    mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (13, 13)))
    attenuation = np.asarray((0.10 + 1.5 * window.contrast) * specks, dtype=np.float32)
    return DrawnLesion(attenuation=attenuation, mask=np.asarray(mask, dtype=np.uint8))


def _places(distribution: str, window: LesionWindow, count: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return offsets ``(count, 2)`` as (x, y); the first value named in ``distribution`` decides how they lie."""
    first = distribution.split("-", maxsplit=1)[0]
    spread = window.radius
    across, along = rng.standard_normal((2, count)) * 0.42
    if first == "LINEAR":
        across, along = across * 0.15, rng.uniform(-1.3, 1.3, count)
    elif first == "SEGMENTAL":
        along = rng.uniform(-1.3, 1.3, count)
        across = across * (1.4 - along) * 0.6
    elif first == "REGIONAL":
        across, along = rng.uniform(-1.3, 1.3, (2, count))
    elif first == "DIFFUSELY_SCATTERED":
        across, along = rng.uniform(-1.7, 1.7, (2, count))
    x, y = np.cos(window.to_nipple), np.sin(window.to_nipple)
    places = np.stack([along * x - across * y, along * y + across * x], axis=1) * spread
    return np.clip(places, -HALF_SIDE / 1.6, HALF_SIDE / 1.6)


def _vessel_walls(window: LesionWindow, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return places along the two walls of a winding artery."""
    along = np.linspace(-1.4, 1.4, 22) * window.radius
    wave = 0.25 * window.radius * np.sin(along / window.radius * 2 + rng.uniform(0, 6))
    walls = np.concatenate([np.stack([along, wave + side], axis=1) for side in (-1.8, 1.8)])
    turn = rng.uniform(-np.pi, np.pi)
    kept = walls[rng.random(len(walls)) < 0.8]
    return np.asarray(kept @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]))


def _draw_speck(canvas: ByteArray, place: NDArray[np.float64], style: _SpeckStyle, rng: np.random.Generator) -> None:
    size, value = rng.uniform(*style.size), int(255 * rng.uniform(*style.brightness))
    if style.outline in {"disc", "rail", "ring"}:
        axes = size * np.array([1.0, rng.uniform(0.6, 1.0)])
        cv2.ellipse(
            canvas,
            fixed_point(place[None])[0].tolist(),
            np.rint(axes * 2**SUBPIXEL_BITS).astype(int).tolist(),
            rng.uniform(0, 180),
            0,
            360,
            value,
            1 if style.outline == "ring" else -1,
            cv2.LINE_AA,
            SUBPIXEL_BITS,
        )
        return
    turn = rng.uniform(-np.pi, np.pi)
    turns = [turn, turn + rng.uniform(0.5, 0.9)] if style.outline == "branch" else [turn]
    thickness = 1 if style.outline == "branch" else 3
    for angle in turns:
        direction = size * np.array([np.cos(angle), np.sin(angle)])
        ends = fixed_point(np.stack([place - direction, place + direction]))
        cv2.line(canvas, ends[0].tolist(), ends[1].tolist(), value, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
