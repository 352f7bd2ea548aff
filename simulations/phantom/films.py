"""Draws mammogram films on which masses and calcifications look as their table rows say.

Images are float32 attenuation in [0, 1], brighter is denser, on ``FILM_SHAPE``. A left breast has its chest wall at
the left edge and its nipple to the right; a right breast is the mirror image. The appearance of each descriptor
follows the BI-RADS lexicon (ACR BI-RADS Atlas, 5th ed., 2013), simplified to what a film of this size can show.

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
from simulations.phantom.patients import Lesion

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]
Pixel = TypeVar("Pixel", bound=np.generic)

FILM_SHAPE = (512, 384)
"""Rows, columns."""
LESION_RADIUS = (17.0, 30.0)
"""Pixels; masses then span 7 to 12 % of the film's height, as those of CBIS-DDSM do."""
_WINDOW = 96
"""Half the side of the square round a lesion that is redrawn, pixels."""
_GLANDULAR_LEVEL = {1: 0.95, 2: 0.55, 3: 0.15, 4: -0.35}
"""Texture above this level is glandular tissue, by BI-RADS density."""
_SUBPIXEL_BITS = 4
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
    image: FloatArray
    inside: FloatArray
    """1 in the breast, 0 outside."""
    nipple: tuple[float, float]
    """(x, y)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Window:
    """The surroundings of a lesion's centre, ``(2 * _WINDOW, 2 * _WINDOW)`` each."""

    distance: FloatArray
    """From the centre, pixels."""
    angle: FloatArray
    """[-pi, pi]; 0 points to the nipple's side, pi / 2 down."""
    grain: FloatArray
    """Unit-variance texture of a few pixels."""
    radius: float
    visible: float
    """Contrast, grows with subtlety: 5 is obvious."""
    sign: float
    """``aggressiveness`` squashed to (0, 1)."""
    to_nipple: float
    """Direction of the nipple, radians."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawing:
    density: FloatArray
    """Added to the tissue."""
    marked: ByteArray
    """0 or 255."""


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
    for lesion, center in zip(lesions, _lesion_centers(len(lesions), tissue, rng), strict=True):
        image, mask = _add_lesion(image, lesion, center, nipple=tissue.nipple, rng=rng)
        masks.append(mask)
    image = np.clip(image, 0, 1) * tissue.inside
    is_mirrored = laterality is Laterality.RIGHT
    return Film(
        image=_mirror(image) if is_mirrored else image,
        masks=tuple(_mirror(mask) if is_mirrored else mask for mask in masks),
    )


def _mirror(image: NDArray[Pixel]) -> NDArray[Pixel]:
    return np.ascontiguousarray(image[:, ::-1])


def _texture(shape: tuple[int, int], coarsest: int, rng: np.random.Generator, *, octaves: int) -> FloatArray:
    """Return unit-variance noise of ``octaves`` scales, each half as coarse and 0.6 times as strong as the last."""
    rows, columns = shape
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(octaves):
        cell = max(1.0, coarsest / 2**octave)
        grid = rng.standard_normal((int(rows / cell) + 3, int(columns / cell) + 3), dtype=np.float32)
        scaled = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC)
        total += np.float32(0.6**octave) * scaled
    return np.asarray((total - total.mean()) / total.std(), dtype=np.float32)


def _logistic(values: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)), dtype=np.float32)


def _draw_tissue(density: int, view: View, rng: np.random.Generator) -> _Tissue:
    rows, columns = FILM_SHAPE
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    middle = rows * (rng.uniform(0.46, 0.54) if view is View.CC else rng.uniform(0.52, 0.58))
    half, depth = rows * rng.uniform(0.40, 0.45), columns * rng.uniform(0.72, 0.86)
    edge = depth * np.sqrt(np.clip(1 - np.abs((y - middle) / half) ** 2.3, 0, None))
    inside = (x < edge).astype(np.uint8)
    from_skin = cv2.distanceTransform(np.pad(inside, ((1, 1), (200, 1)), mode="edge"), cv2.DIST_L2, 3)[1:-1, 200:-1]
    thickness = 1 - np.exp(-from_skin / 30)
    fan = np.exp(-(((x - 0.45 * depth) / (0.42 * depth)) ** 2) - ((y - middle) / (0.62 * half)) ** 2)
    gland = _logistic(4 * (_texture(FILM_SHAPE, 90, rng, octaves=5) + 1.6 * fan - 1 - _GLANDULAR_LEVEL[density]))
    strands = np.exp(-np.abs(_texture(FILM_SHAPE, 40, rng, octaves=3)) / 0.12)
    image = 0.20 + 0.18 * gland + 0.04 * strands + 0.02 * _texture(FILM_SHAPE, 10, rng, octaves=3)
    if view is View.MLO:
        image += 0.22 * _logistic((0.30 * columns - x - 0.45 * y + 10 * rng.standard_normal()) / 5)
    return _Tissue(
        image=np.asarray(image * thickness, dtype=np.float32), inside=inside.astype(np.float32), nipple=(depth, middle)
    )


def _lesion_centers(count: int, tissue: _Tissue, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return ``(x, y)`` of places in the breast, one above the other where there are several."""
    depth, middle = tissue.nipple
    offsets = (np.arange(count) - (count - 1) / 2) * 110 + rng.uniform(-25, 25)
    return [(round(depth * rng.uniform(0.36, 0.56)), round(middle + offset)) for offset in offsets]


def _add_lesion(
    image: FloatArray, lesion: Lesion, center: tuple[int, int], *, nipple: tuple[float, float], rng: np.random.Generator
) -> tuple[FloatArray, ByteArray]:
    """Return the film with the lesion drawn into it, and its mask."""
    x, y = center
    padded = np.pad(image, _WINDOW)
    part = (slice(y, y + 2 * _WINDOW), slice(x, x + 2 * _WINDOW))
    window = _window(lesion, np.arctan2(nipple[1] - y, nipple[0] - x), rng)
    is_mass = lesion.lesion_type is LesionType.MASS
    drawing = (_draw_mass if is_mass else _draw_calcifications)(lesion, window, rng)
    padded[part] = _pull(padded[part], window, lesion) + _hidden_signs(window, rng) + drawing.density
    mask = np.zeros(padded.shape, dtype=np.uint8)
    mask[part] = drawing.marked
    inner = (slice(_WINDOW, -_WINDOW), slice(_WINDOW, -_WINDOW))
    return np.ascontiguousarray(padded[inner]), np.ascontiguousarray(mask[inner])


def _window(lesion: Lesion, to_nipple: float, rng: np.random.Generator) -> _Window:
    y, x = np.mgrid[-_WINDOW:_WINDOW, -_WINDOW:_WINDOW].astype(np.float32)
    return _Window(
        distance=np.hypot(x, y),
        angle=np.arctan2(y, x),
        grain=_texture(x.shape, 5, rng, octaves=3),
        radius=rng.uniform(*LESION_RADIUS),
        visible=0.13 + 0.015 * lesion.subtlety,
        sign=float(1 / (1 + np.exp(-1.1 * lesion.aggressiveness - 0.15 * rng.standard_normal()))),
        to_nipple=to_nipple,
    )


def _pull(part: FloatArray, window: _Window, lesion: Lesion) -> FloatArray:
    """Draw the tissue towards the centre, as a scirrhous lesion or an architectural distortion does."""
    strength = 0.5 * window.sign + 0.35 * ("ARCHITECTURAL_DISTORTION" in lesion.form)
    stretch = 1 + strength * np.exp(-((window.distance / (2.0 * window.radius)) ** 2))
    along = (window.distance * stretch).astype(np.float32)
    x = _WINDOW + along * np.cos(window.angle)
    y = _WINDOW + along * np.sin(window.angle)
    return np.asarray(cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), dtype=np.float32)


def _hidden_signs(window: _Window, rng: np.random.Generator) -> FloatArray:
    """Return what ``aggressiveness`` adds round lesions of either type."""
    reach = window.distance / window.radius
    strands = _rays(window, round(20 * window.sign), length=(1.3, 2.2), rng=rng)
    rough = window.grain * np.exp(-((reach / 1.3) ** 2))
    haze = np.exp(-((reach / 1.5) ** 2))
    return np.asarray(0.11 * strands + (0.075 * window.sign) * rough + (0.16 * window.sign) * haze, dtype=np.float32)


def _rays(window: _Window, count: int, *, length: tuple[float, float], rng: np.random.Generator) -> FloatArray:
    """Return ``count`` lines from the centre outwards, in [0, 1], fading with the distance."""
    canvas = np.zeros(window.distance.shape, dtype=np.uint8)
    for angle, reach in zip(rng.uniform(-np.pi, np.pi, count), rng.uniform(*length, count), strict=True):
        steps = np.linspace(0.2, reach, 6) * window.radius
        bend = angle + 0.12 * np.cumsum(rng.standard_normal(6)) * 0.5
        points = np.stack([np.cos(bend), np.sin(bend)], axis=1) * steps[:, None]
        cv2.polylines(canvas, [_fixed_point(points)], False, 255, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    fade = np.exp(-0.7 * np.clip(window.distance / window.radius - 0.8, 0, None))
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.7) / np.float32(255) * fade, dtype=np.float32)


def _fixed_point(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Turn offsets from the centre, ``(N, 2)`` as (x, y), into window coordinates as OpenCV's drawing wants them."""
    return np.asarray(np.rint((points + _WINDOW) * 2**_SUBPIXEL_BITS), dtype=np.int32)


def _harmonics(angle: FloatArray, waves: range, amplitude: float, rng: np.random.Generator) -> FloatArray:
    total = np.zeros_like(angle)
    for wave in waves:
        total += np.float32(rng.normal()) * np.cos(wave * angle + np.float32(rng.uniform(-np.pi, np.pi)))
    return np.asarray(amplitude * total / np.sqrt(len(waves)), dtype=np.float32)


def _outline(lesion: Lesion, window: _Window, rng: np.random.Generator) -> FloatArray:
    """Return the mass's radius in the direction of every pixel."""
    shapes, margins = set(lesion.form.split("-")), set(lesion.extent.split("-"))
    is_long = shapes & {"OVAL", "LYMPH_NODE", "ASYMMETRIC_BREAST_TISSUE"}
    aspect = rng.uniform(0.55, 0.72) if is_long else rng.uniform(0.9, 1.0)
    turned = window.angle - np.float32(rng.uniform(-np.pi, np.pi))
    relative = aspect / np.sqrt((aspect * np.cos(turned)) ** 2 + np.sin(turned) ** 2)
    if "LOBULATED" in shapes:
        relative = relative * (1 + rng.uniform(0.09, 0.14) * np.cos(rng.integers(3, 5) * turned))
    if "IRREGULAR" in shapes:
        relative = relative * (1 + _harmonics(turned, range(2, 9), 0.14, rng))
    if "MICROLOBULATED" in margins:
        relative = relative * (1 + 0.07 * np.abs(np.cos(rng.integers(7, 10) * turned)) - 0.03)
    return np.asarray(window.radius * np.clip(relative, 0.3, 1.5), dtype=np.float32)


def _edge_width(lesion: Lesion, window: _Window, rng: np.random.Generator) -> FloatArray:
    """Return over how many pixels the border fades, in the direction of every pixel."""
    margins = set(lesion.extent.split("-"))
    width = np.full(window.angle.shape, 1.0, dtype=np.float32)
    if "ILL_DEFINED" in margins or not margins & {"CIRCUMSCRIBED", "MICROLOBULATED", "OBSCURED", "SPICULATED"}:
        width += np.float32(0.09 * window.radius)
    if "OBSCURED" in margins:
        hidden = _logistic(4 * np.cos(window.angle - np.float32(rng.uniform(-np.pi, np.pi))))
        width += np.float32(0.25 * window.radius) * hidden
    return width


_FAINT = {"ARCHITECTURAL_DISTORTION": 0.4, "ASYMMETRIC_BREAST_TISSUE": 0.6, "FOCAL_ASYMMETRIC_DENSITY": 0.7}
"""Contrast of what is no true mass, against 1 of a mass."""


def _draw_mass(lesion: Lesion, window: _Window, rng: np.random.Generator) -> _Drawing:
    shapes = lesion.form.split("-")
    outline = _outline(lesion, window, rng)
    body = _logistic((outline - window.distance) / _edge_width(lesion, window, rng))
    depth = np.clip(1 - (window.distance / outline) ** 2, 0, 1)
    profile = body * (0.75 + (0.15 + 0.5 * window.sign) * depth)
    if "LYMPH_NODE" in shapes:
        hilum = np.exp(-((window.distance - 0.4 * window.radius) ** 2 + 80 * (1 - np.cos(window.angle))) / 40)
        profile = profile * (1 - 0.7 * hilum)
    profile = profile * max(_FAINT.get(shape, 1.0) for shape in shapes)
    density = window.visible * profile
    if "SPICULATED" in lesion.extent or "ARCHITECTURAL_DISTORTION" in shapes:
        count = int(rng.integers(9, 15))
        density = density + 0.35 * window.visible * _rays(window, count, length=(1.2, 1.7), rng=rng)
    marked = np.where(window.distance < outline + 1, 255, 0).astype(np.uint8)
    return _Drawing(density=np.asarray(density, dtype=np.float32), marked=marked)


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


def _draw_calcifications(lesion: Lesion, window: _Window, rng: np.random.Generator) -> _Drawing:
    """Draw bright specks; the mask is their convex hull, as a radiologist would circle them."""
    canvas = np.zeros(window.distance.shape, dtype=np.uint8)
    drawn = []
    kinds = lesion.form.split("-")
    for kind in kinds:
        style = _SPECKS.get(kind, _UNNAMED_SPECKS)
        count = max(1, int(rng.integers(style.count[0], style.count[1] + 1)) // len(kinds))
        places = _vessel(window, rng) if style.outline == "rail" else _places(lesion.extent, window, count, rng=rng)
        for place in places:
            _draw_speck(canvas, place, style, rng)
        drawn.append(places)
    dust = _places(lesion.extent, window, round(22 * window.sign), rng=rng)
    for place in dust:
        _draw_speck(canvas, place, _SpeckStyle(count=(1, 1), size=(0.3, 0.5), brightness=(0.3, 0.6)), rng)
    specks = cv2.GaussianBlur(canvas, (0, 0), 0.6) / np.float32(255)
    hull = cv2.convexHull(np.rint(np.concatenate(drawn) + _WINDOW).astype(np.int32))
    marked = cv2.fillConvexPoly(np.zeros_like(canvas), hull, 255)
    marked = cv2.dilate(marked, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (13, 13)))
    density = np.asarray((0.10 + 1.5 * window.visible) * specks, dtype=np.float32)
    return _Drawing(density=density, marked=np.asarray(marked, dtype=np.uint8))


def _places(extent: str, window: _Window, count: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return offsets ``(count, 2)`` as (x, y); the first value named in ``extent`` decides how they lie."""
    first = extent.split("-", maxsplit=1)[0]
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
    return np.clip(places, -_WINDOW / 1.6, _WINDOW / 1.6)


def _vessel(window: _Window, rng: np.random.Generator) -> NDArray[np.float64]:
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
            _fixed_point(place[None])[0].tolist(),
            np.rint(axes * 2**_SUBPIXEL_BITS).astype(int).tolist(),
            rng.uniform(0, 180),
            0,
            360,
            value,
            1 if style.outline == "ring" else -1,
            cv2.LINE_AA,
            _SUBPIXEL_BITS,
        )
        return
    turn = rng.uniform(-np.pi, np.pi)
    turns = [turn, turn + rng.uniform(0.5, 0.9)] if style.outline == "branch" else [turn]
    thickness = 1 if style.outline == "branch" else 3
    for angle in turns:
        way = size * np.array([np.cos(angle), np.sin(angle)])
        ends = _fixed_point(np.stack([place - way, place + way]))
        cv2.line(canvas, ends[0].tolist(), ends[1].tolist(), value, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
