"""Pictures held against a reference: negatives, other brightness and other contrast, each said in one line."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from client.data.grey_levels import GreyLevels
from shared_model.reference.grey_levels import GreyReference, Spread

_HOSPITALS_DIFFER, _BY_CHANCE = 0.3, 2.5
"""Standard deviations over lesions: how far two hospitals' means may lie apart, and by chance that of one picture."""

_SATURATED_PIXELS, _SATURATED_PICTURES = 0.03, 0.05
"""White pixels that a film whose brightest tissue is lost has; the share of such pictures among real masses, at most.
Of the hospitals of CBIS-DDSM 4 %, 2 % and 1 %."""


class GreyFault(StrEnum):
    """What may have been done to pictures."""

    NEGATIVE = "negative"
    SOME_NEGATIVE = "some negative"
    BRIGHTER = "brighter"
    DARKER = "darker"
    STRETCHED = "stretched"
    COMPRESSED = "compressed"
    SATURATED = "saturated"


@dataclass(frozen=True, kw_only=True)
class GreyFinding:
    """One fault of a hospital's pictures, or of one picture."""

    fault: GreyFault
    text: str
    """A line for a person; it begins in lower case and has no full stop."""


def grey_findings(pictures: Sequence[GreyLevels], reference: GreyReference | None) -> tuple[GreyFinding, ...]:
    """Compare one picture, or a sample of a hospital's, with real masses.

    The means of a sample of ``n`` may lie ``0.3 + 2.5 / sqrt(n)`` standard deviations of single lesions off. How many
    alarms are false, and what is found, ``fedmammo benchmark grey-levels`` measures.

    Args:
        pictures: of lesions; none gives no finding.
        reference: of pictures made the same way; without one only negatives are recognised.
    """
    if not pictures:
        return ()
    num_negative = sum(levels.looks_negative for levels in pictures)
    if 2 * num_negative > len(pictures):
        text = f"{num_negative} of {len(pictures)} images look negative: tissue is darker than what surrounds it"
        return (GreyFinding(fault=GreyFault.NEGATIVE, text=text),)
    if reference is None:
        return ()
    found = (
        _brightness(pictures, reference),
        _contrast(pictures, reference),
        _saturation(pictures),
        _some_negative(pictures, reference),
    )
    return tuple(finding for finding in found if finding is not None)


def _brightness(pictures: Sequence[GreyLevels], reference: GreyReference) -> GreyFinding | None:
    mean = float(np.mean([levels.middle for levels in pictures]))
    deviation = _beyond_limit(mean, reference.middle, len(pictures))
    if deviation == 0:
        return None
    fault = GreyFault.BRIGHTER if deviation > 0 else GreyFault.DARKER
    cause = "gamma below 1 or a window set too low" if deviation > 0 else "gamma above 1 or a window set too high"
    text = f"{fault} than the masses compared with, middle grey {mean:.2f} instead of {reference.middle.mean:.2f}"
    return GreyFinding(fault=fault, text=f"{text}: {cause}, or other films")


def _contrast(pictures: Sequence[GreyLevels], reference: GreyReference) -> GreyFinding | None:
    mean = float(np.mean([levels.log_range for levels in pictures]))
    deviation = _beyond_limit(mean, reference.log_range, len(pictures))
    if deviation == 0:
        return None
    fault = GreyFault.STRETCHED if deviation > 0 else GreyFault.COMPRESSED
    cause = "a window burnt into the pixels" if deviation > 0 else "too wide a window, or bits lost"
    ratio = math.exp(mean - reference.log_range.mean)
    text = f"{fault} in contrast, {ratio:.1f} times the grey levels of the masses compared with"
    return GreyFinding(fault=fault, text=f"{text}: {cause}, or other films")


def _saturation(pictures: Sequence[GreyLevels]) -> GreyFinding | None:
    num_pictures = len(pictures)
    num_saturated = sum(levels.white >= _SATURATED_PIXELS for levels in pictures)
    expected = _SATURATED_PICTURES * num_pictures
    if num_saturated <= expected + _BY_CHANCE * math.sqrt(expected * (1 - _SATURATED_PICTURES)):
        return None
    text = f"{num_saturated} of {num_pictures} images have {_SATURATED_PIXELS:.0%} or more of their pixels pure white"
    return GreyFinding(fault=GreyFault.SATURATED, text=f"{text}: a window burnt into them has cut the brightest tissue")


def _some_negative(pictures: Sequence[GreyLevels], reference: GreyReference) -> GreyFinding | None:
    mean = float(np.mean([levels.relative_contrast for levels in pictures]))
    if _beyond_limit(mean, reference.relative_contrast, len(pictures)) >= 0:
        return None
    num_negative = sum(levels.looks_negative for levels in pictures)
    text = f"{num_negative} of {len(pictures)} images are darker inside than outside, of real masses 1 in 20"
    return GreyFinding(fault=GreyFault.SOME_NEGATIVE, text=f"{text}: some may be negatives")


def _beyond_limit(mean: float, spread: Spread, num_pictures: int) -> float:
    """Return by how many standard deviations a mean lies off, with its sign; 0 within the limit."""
    deviation = (mean - spread.mean) / spread.sd
    return deviation if abs(deviation) > _HOSPITALS_DIFFER + _BY_CHANCE / math.sqrt(num_pictures) else 0.0
