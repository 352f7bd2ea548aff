"""Draws masses: an outline by shape, a border by margins, spicules and what only resembles a mass.

The appearance of each descriptor follows the BI-RADS lexicon (ACR BI-RADS Atlas, 5th ed., 2013), simplified to what a
film of this size can show.
"""

import numpy as np

from simulations.phantom.lesion_window import DrawnLesion, FloatArray, LesionWindow, logistic, rays
from simulations.phantom.patients import Lesion

_RELATIVE_CONTRAST = {"ARCHITECTURAL_DISTORTION": 0.4, "ASYMMETRIC_BREAST_TISSUE": 0.6, "FOCAL_ASYMMETRIC_DENSITY": 0.7}
"""Contrast of what is no true mass, against 1 of a mass."""


def draw_mass(lesion: Lesion, window: LesionWindow, rng: np.random.Generator) -> DrawnLesion:
    """Draw a mass; its mask is one pixel wider than its outline."""
    shapes = lesion.shape_or_type.split("-")
    outline = _outline(lesion, window, rng)
    body = logistic((outline - window.distance) / _edge_width(lesion, window, rng))
    depth = np.clip(1 - (window.distance / outline) ** 2, 0, 1)
    profile = body * (0.75 + (0.15 + 0.5 * window.aggressiveness) * depth)
    if "LYMPH_NODE" in shapes:
        hilum = np.exp(-((window.distance - 0.4 * window.radius) ** 2 + 80 * (1 - np.cos(window.angle))) / 40)
        profile = profile * (1 - 0.7 * hilum)
    profile = profile * max(_RELATIVE_CONTRAST.get(shape, 1.0) for shape in shapes)
    attenuation = window.contrast * profile
    if "SPICULATED" in lesion.margins_or_distribution or "ARCHITECTURAL_DISTORTION" in shapes:
        count = int(rng.integers(9, 15))
        attenuation = attenuation + 0.35 * window.contrast * rays(window, count, length=(1.2, 1.7), rng=rng)
    mask = np.where(window.distance < outline + 1, 255, 0).astype(np.uint8)
    return DrawnLesion(attenuation=np.asarray(attenuation, dtype=np.float32), mask=mask)


def _harmonics(angle: FloatArray, waves: range, amplitude: float, rng: np.random.Generator) -> FloatArray:
    """Return a sum of cosines of ``angle`` with random phases: an irregular outline."""
    total = np.zeros_like(angle)
    for wave in waves:
        total += np.float32(rng.normal()) * np.cos(wave * angle + np.float32(rng.uniform(-np.pi, np.pi)))
    return np.asarray(amplitude * total / np.sqrt(len(waves)), dtype=np.float32)


def _outline(lesion: Lesion, window: LesionWindow, rng: np.random.Generator) -> FloatArray:
    """Return the mass's radius in the direction of every pixel."""
    shapes, margins = set(lesion.shape_or_type.split("-")), set(lesion.margins_or_distribution.split("-"))
    is_long = shapes & {"OVAL", "LYMPH_NODE", "ASYMMETRIC_BREAST_TISSUE"}
    aspect = rng.uniform(0.55, 0.72) if is_long else rng.uniform(0.9, 1.0)
    rotated = window.angle - np.float32(rng.uniform(-np.pi, np.pi))
    relative = aspect / np.sqrt((aspect * np.cos(rotated)) ** 2 + np.sin(rotated) ** 2)
    if "LOBULATED" in shapes:
        relative = relative * (1 + rng.uniform(0.09, 0.14) * np.cos(rng.integers(3, 5) * rotated))
    if "IRREGULAR" in shapes:
        relative = relative * (1 + _harmonics(rotated, range(2, 9), 0.14, rng))
    if "MICROLOBULATED" in margins:
        relative = relative * (1 + 0.07 * np.abs(np.cos(rng.integers(7, 10) * rotated)) - 0.03)
    return np.asarray(window.radius * np.clip(relative, 0.3, 1.5), dtype=np.float32)


def _edge_width(lesion: Lesion, window: LesionWindow, rng: np.random.Generator) -> FloatArray:
    """Return over how many pixels the border fades, in the direction of every pixel."""
    margins = set(lesion.margins_or_distribution.split("-"))
    width = np.full(window.angle.shape, 1.0, dtype=np.float32)
    if "ILL_DEFINED" in margins or not margins & {"CIRCUMSCRIBED", "MICROLOBULATED", "OBSCURED", "SPICULATED"}:
        width += np.float32(0.09 * window.radius)
    if "OBSCURED" in margins:
        hidden = logistic(4 * np.cos(window.angle - np.float32(rng.uniform(-np.pi, np.pi))))
        width += np.float32(0.25 * window.radius) * hidden
    return width
