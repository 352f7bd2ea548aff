"""What a lesion must pass before a network looks at it: each gate returns the reasons against it, none if it passes.

Metadata first, pixels after them. A gate that passes does not mean that a picture is good: it means that this gate
knows nothing against it.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import cv2
import numpy as np

from client.data.dicom.examination import Examination
from client.data.grey_levels import GreyLevels, grey_levels, is_faint
from client.data.preprocessing import Box, Float32Array, GreyImage, SeenSquare, is_mask, preprocess
from client.reading.request import Picture
from client.reading.result import Reason, Why
from shared_model.config.choices import ImageMode, Modality, Normalisation, Views
from shared_model.config.site_sections import ImageConfig
from shared_model.release.document import GreyContract, InputContract
from shared_model.vocabulary import Laterality, View

MAX_VIEWS = 2
_LONGEST_CROP = 1600
"""Pixels: the crops of CBIS-DDSM are shorter but for a handful, and its films longer."""
_SHORTEST_FILM = 500
_UNEQUAL = 1.02
"""Pixels whose sides differ by more are not square; two views whose spacing does are of two machines."""
_SMALL = 256
"""Pixels a side at which a film is looked at as a whole."""
_LEAST_ON_BREAST = 0.5
_BOX_SIDES = (0.005, 0.6)
"""Shortest and longest side of a box as a share of the film's longer side: beyond it is a slip of the hand, and no
lesion. Those of the masses of CBIS-DDSM lie well within."""
_MOST_ELONGATED = 8.0
"""Longer side of a box by its shorter one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedPicture:
    """A picture that could be read, with what was declared of it."""

    picture: Picture
    grey: GreyImage
    sha256: str
    examination: Examination = field(default_factory=Examination)
    """What the file says of patient and day; nothing, if it is no DICOM file."""
    levels: GreyLevels | None = None
    """Of what the network is shown; None where no gate before it let it be made."""
    seen: SeenSquare | None = None
    """Where on the picture that is; None with ``levels``."""

    @property
    def view(self) -> View | None:
        """As declared, or else as the file says."""
        return self.picture.view or self.grey.view


def check_request(pictures: Sequence[Picture], contract: InputContract) -> Iterator[Why]:
    """Yield what speaks against the request before any file is opened."""
    if contract.model.modality is Modality.CLINICAL:
        if pictures:
            yield Why(code=Reason.MODE, text="Expected no picture: the release reads columns alone.")
        return
    most = MAX_VIEWS if contract.views is Views.ALL else 1
    if not 1 <= len(pictures) <= most:
        wanted = "one or two pictures of the lesion, CC and MLO" if most == MAX_VIEWS else "one picture"
        yield Why(code=Reason.VIEWS, text=f"Expected {wanted}, got {len(pictures)}.")
    views = [picture.view for picture in pictures if picture.view is not None]
    if len(set(views)) < len(views):
        yield Why(code=Reason.VIEWS, text=f"Expected pictures of different views, got {views[0]} twice.")
    for picture in pictures:
        if contract.needs_box and picture.box is None:
            yield Why(code=Reason.BOX, text="Expected the lesion's box: the release reads films at a box.")
        if not contract.needs_box and picture.box is not None:
            text = (
                "Expected no box: the release was trained on crops that are cut otherwise, and what is cut from a film "
                "at a box would get another answer. A release for films is trained with data.image.mode=roi."
            )
            yield Why(code=Reason.MODE, text=text)


def check_metadata(opened: Sequence[OpenedPicture], laterality: Laterality | None) -> Iterator[Why]:
    """Yield what the files say against one another, against what was declared, and against the table's side."""
    for each in opened:
        declared, found = each.picture.view, each.grey.view or each.grey.other_view
        if declared is not None and found not in (None, declared):
            yield Why(code=Reason.VIEW, text=f"Expected a {declared} view, the file says {found}.")
        if laterality is not None and each.grey.laterality not in (None, laterality):
            yield _sides(laterality, each.grey.laterality)
        spacing = each.grey.pixel_spacing
        if spacing is not None and max(spacing) > _UNEQUAL * min(spacing):
            text = f"Expected square pixels, the file says {spacing[0]:g} x {spacing[1]:g} mm."
            yield Why(code=Reason.SPACING, text=text)
    if len(opened) == MAX_VIEWS:
        yield from _check_pair(*opened)


def _check_pair(first: OpenedPicture, second: OpenedPicture) -> Iterator[Why]:
    if first.sha256 == second.sha256 or np.array_equal(first.grey.pixels, second.grey.pixels):
        yield Why(code=Reason.VIEWS, text="Expected two pictures, got the same one twice.")
    if first.view is not None and first.view is second.view:
        yield Why(code=Reason.VIEWS, text=f"Expected pictures of different views, both are {first.view}.")
    if (attribute := first.examination.contradiction(second.examination)) is not None:
        # Not the values: a result is copied to where a patient's name is nobody's business.
        text = f"Expected two views of one patient and one day, the files have different ones: {attribute}."
        yield Why(code=Reason.PATIENT, text=text)
    sides = first.grey.laterality, second.grey.laterality
    if None not in sides and sides[0] is not sides[1]:
        yield _sides(*sides)
    spacings = first.grey.pixel_spacing, second.grey.pixel_spacing
    if spacings[0] is not None and spacings[1] is not None:
        low, high = sorted((spacings[0][0], spacings[1][0]))
        if high > _UNEQUAL * low:
            text = f"Expected both views with the same pixel spacing, got {low:g} and {high:g} mm."
            yield Why(code=Reason.SPACING, text=text)


def _sides(expected: Laterality | None, found: Laterality | None) -> Why:
    return Why(code=Reason.LATERALITY, text=f"Expected one breast, got {expected} and {found}.")


def check_shape(opened: OpenedPicture, contract: InputContract) -> Iterator[Why]:
    """Yield what speaks against a picture's kind: a film for a crop, a crop for a film, a mask, a box beyond it."""
    height, width = opened.grey.pixels.shape
    if is_mask(opened.grey.pixels):
        yield Why(code=Reason.FILE, text="Expected a picture, got a mask: it has two grey values.")
        return
    if contract.image.mode is ImageMode.CROP:
        if max(height, width) > _LONGEST_CROP:
            text = f"Expected a crop of the lesion of at most {_LONGEST_CROP} pixels a side, got {width} x {height}."
            yield Why(code=Reason.MODE, text=text)
        return
    if min(height, width) < _SHORTEST_FILM:
        text = f"Expected a whole film of at least {_SHORTEST_FILM} pixels a side, got {width} x {height}."
        yield Why(code=Reason.MODE, text=text)
    box = opened.picture.box
    if box is not None and (box.x + box.width > width or box.y + box.height > height):
        text = f"Expected the box ({_shown(box)}) on the film of {width} x {height} pixels."
        yield Why(code=Reason.BOX, text=text)
    elif box is not None and not _may_be_lesion(box, max(height, width)):
        text = f"Expected the box of a lesion, got ({_shown(box)}): it is too small, too large or too narrow for one."
        yield Why(code=Reason.BOX, text=text)


def _may_be_lesion(box: Box, longer_side: int) -> bool:
    short, long = sorted((box.width, box.height))
    lowest, highest = _BOX_SIDES
    return short >= lowest * longer_side and long <= highest * longer_side and long <= _MOST_ELONGATED * short


def check_box_on_breast(opened: OpenedPicture) -> Iterator[Why]:
    """Yield what speaks against the place of a film's box."""
    if opened.picture.box is None:
        return
    small, box = _shrunk(opened.grey, opened.picture.box)
    if box is not None and _share_on_breast(small.pixels, box) < _LEAST_ON_BREAST:
        text = f"Expected the box ({_shown(opened.picture.box)}) on the breast, most of it lies beside."
        yield Why(code=Reason.BOX, text=text)


def check_grey_levels(
    picture: Float32Array, grey: GreyImage, image: ImageConfig, reference: GreyContract | None
) -> Iterator[Why]:
    """Yield what speaks against the grey levels of what the network sees, ``(S, S)`` in [0, 1]."""
    if image.normalisation is Normalisation.FULL_RANGE and is_faint(picture):
        low, high = float(grey.pixels.min()), float(grey.pixels.max())
        text = (
            f"Expected a picture that uses its range {grey.value_range[0]:g} to {grey.value_range[1]:g}, got "
            f"{low:g} to {high:g}: nearly black, white or of one grey."
        )
        yield Why(code=Reason.RANGE, text=text)
    elif reference is not None:
        levels = asdict(grey_levels(picture, image.mode))
        outside = [name for name, low in reference.lowest.items() if not low <= levels[name] <= reference.highest[name]]
        if outside:
            text = f"Expected grey levels like those of the public lesions; outside: {', '.join(outside)}."
            yield Why(code=Reason.GREY_LEVELS, text=text)


def has_dark_tissue(
    picture: Float32Array, opened: OpenedPicture, image: ImageConfig, laterality: Laterality | None
) -> bool:
    """Return whether tissue is darker than what surrounds it: of a film breast and air, of a crop middle and rim.

    The middle is darker in some 5 % of the crops of CBIS-DDSM too, so one crop alone proves nothing.
    """
    if image.mode is ImageMode.CROP:
        return grey_levels(picture, image.mode).looks_negative
    small, _ = _shrunk(opened.grey, None)
    whole = dataclasses.replace(image, mode=ImageMode.FILM, size=_SMALL, face_left=True)
    seen = preprocess(small, whole, laterality=laterality or small.laterality, box=None)
    return grey_levels(seen, ImageMode.FILM).looks_negative


def _shrunk(grey: GreyImage, box: Box | None) -> tuple[GreyImage, Box | None]:
    """Return a film at a size that is looked at fast, and where its box lies there."""
    height, width = grey.pixels.shape
    scale = min(1.0, _SMALL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = np.asarray(cv2.resize(grey.pixels, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
    padding = cv2.resize(grey.padding.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    if box is not None:
        x, y = min(int(box.x * scale), size[0] - 1), min(int(box.y * scale), size[1] - 1)
        box = Box(
            x=x,
            y=y,
            width=max(1, min(round(box.width * scale), size[0] - x)),
            height=max(1, min(round(box.height * scale), size[1] - y)),
        )
    return dataclasses.replace(grey, pixels=pixels, padding=padding), box


def _share_on_breast(pixels: Float32Array, box: Box) -> float:
    """Return the share of a box that lies on the largest bright region, which is the breast."""
    low, high = float(pixels.min()), float(pixels.max())
    levels = np.rint((pixels - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    # Air is a narrow peak at the dark end, which the triangle method (Zack et al. 1977) cuts off.
    _, bright = cv2.threshold(cv2.GaussianBlur(levels, (5, 5), 0), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_TRIANGLE)
    count, regions, statistics, _ = cv2.connectedComponentsWithStats(bright)
    if count < 2:
        return 0.0
    breast = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
    return float((regions[box.y : box.y + box.height, box.x : box.x + box.width] == breast).mean())


def _shown(box: Box | None) -> str:
    return "none" if box is None else f"x={box.x}, y={box.y}, width={box.width}, height={box.height}"
