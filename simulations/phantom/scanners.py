"""How the digitiser of each hospital turns a film into stored values."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from simulations.phantom.lesion_window import FloatArray

WordArray = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """One hospital's digitiser: attenuation in [0, 1] to stored values, and how its files lie on disk."""

    gain: float
    offset: float
    gamma: float
    noise: float
    """Standard deviation, in units of the full range."""
    blur: float
    """Standard deviation, pixels."""
    bits_stored: int
    """Of 16 allocated."""
    photometric_interpretation: str
    is_compressed: bool
    has_newer_layout: bool
    """``<subject>/<date>-DDSM-<n>/1.000000-<description>-<n>/1-1.dcm`` instead of folders named by UID."""


SCANNERS = {
    "MGH": Scanner(
        gain=1.05,
        offset=0.03,
        gamma=0.90,
        noise=0.008,
        blur=0.0,
        bits_stored=16,
        photometric_interpretation="MONOCHROME2",
        is_compressed=True,
        has_newer_layout=True,
    ),
    "WFU": Scanner(
        gain=0.95,
        offset=0.05,
        gamma=0.95,
        noise=0.012,
        blur=0.4,
        bits_stored=12,
        photometric_interpretation="MONOCHROME2",
        is_compressed=True,
        has_newer_layout=False,
    ),
    "ISMD": Scanner(
        gain=1.00,
        offset=0.02,
        gamma=1.05,
        noise=0.010,
        blur=0.5,
        bits_stored=16,
        photometric_interpretation="MONOCHROME1",
        is_compressed=False,
        has_newer_layout=False,
    ),
}


def scan(image: FloatArray, scanner: Scanner, rng: np.random.Generator) -> WordArray:
    """Digitise a film: blur, characteristic curve, noise, quantisation; the background stays free of noise.

    Args:
        image: ``(H, W)`` attenuation in [0, 1].
        scanner: which digitiser.
        rng: draws the noise and a slightly different exposure for each film.

    Returns:
        ``(H, W)`` stored values in ``[0, 2 ** bits_stored)``; inverted for MONOCHROME1 (PS3.3 C.7.6.3.1.2).
    """
    softened = cv2.GaussianBlur(image, (0, 0), scanner.blur) if scanner.blur else image
    exposure = scanner.gain * rng.uniform(0.97, 1.03)
    values = scanner.offset + exposure * softened**scanner.gamma
    values += np.float32(scanner.noise) * rng.standard_normal(image.shape, dtype=np.float32)
    largest = 2**scanner.bits_stored - 1
    stored = np.rint(np.clip(values, 0, 1) * (image > 0) * largest)
    is_inverted = scanner.photometric_interpretation == "MONOCHROME1"
    return np.asarray(largest - stored if is_inverted else stored, dtype=np.uint16)
