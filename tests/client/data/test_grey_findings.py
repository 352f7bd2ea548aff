"""Faults of grey levels by hand, and of real masses that were altered."""

import dataclasses

import pytest

from client.data.grey_findings import GreyFault, grey_findings
from client.data.grey_levels import GreyLevels
from shared_model.config.choices import ImageMode, Normalisation
from shared_model.reference.grey_levels import GreyReference, Spread

TYPICAL = GreyLevels(dark=0.4, middle=0.5, bright=0.6, contrast=0.05, white=0)
REFERENCE = GreyReference(
    mode=ImageMode.CROP,
    normalisation=Normalisation.FULL_RANGE,
    num_lesions=100,
    middle=Spread(mean=0.5, sd=0.1),
    log_range=Spread(mean=TYPICAL.log_range, sd=0.5),
    relative_contrast=Spread(mean=0.25, sd=0.2),
)


def faults(*pictures, reference=REFERENCE):
    return [finding.fault for finding in grey_findings(pictures, reference)]


def changed(**values):
    return dataclasses.replace(TYPICAL, **values)


def test_none_at_all_has_no_fault():
    assert faults() == []


@pytest.mark.parametrize("count", [1, 10, 100])
def test_typical_pictures(count):
    assert faults(*[TYPICAL] * count) == []


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"contrast": -0.01}, GreyFault.NEGATIVE),
        ({"middle": 0.8}, GreyFault.BRIGHTER),
        ({"middle": 0.2}, GreyFault.DARKER),
        ({"dark": 0.0, "bright": 1.0, "contrast": 0.25}, GreyFault.STRETCHED),
        ({"dark": 0.48, "bright": 0.52, "contrast": 0.01}, GreyFault.COMPRESSED),
        ({"white": 0.03}, GreyFault.SATURATED),
    ],
)
def test_each_fault(values, fault):
    picture = changed(**values)
    assert faults(*[picture] * 48) == [fault]
    assert faults(picture) == [fault]


@pytest.mark.parametrize(("deviation", "count", "is_found"), [(2.7, 1, False), (2.9, 1, True), (0.5, 100, False)])
def test_the_limit_falls_with_the_number_of_pictures(deviation, count, is_found):
    assert bool(faults(*[changed(middle=0.5 + deviation * 0.1)] * count)) is is_found
    assert faults(*[changed(middle=0.5 + 0.6 * 0.1)] * 100) == [GreyFault.BRIGHTER]


def test_a_share_of_negatives_is_noticed_too():
    negative = changed(contrast=-0.05)
    assert faults(*[TYPICAL] * 44, *[negative] * 4) == []
    assert faults(*[TYPICAL] * 30, *[negative] * 18) == [GreyFault.SOME_NEGATIVE]
    (finding,) = grey_findings([TYPICAL] * 30 + [negative] * 18, REFERENCE)
    assert finding.text.startswith("18 of 48 images are darker inside than outside")


@pytest.mark.parametrize(("num_white", "is_found"), [(1, False), (6, False), (7, True), (48, True)])
def test_a_few_saturated_pictures_are_no_matter(num_white, is_found):
    pictures = [changed(white=0.05)] * num_white + [TYPICAL] * (48 - num_white)
    assert faults(*pictures) == ([GreyFault.SATURATED] if is_found else [])


def test_without_a_reference_negatives_are_still_recognised():
    assert faults(changed(contrast=-0.1), reference=None) == [GreyFault.NEGATIVE]
    assert faults(changed(middle=0.9, white=0.5), reference=None) == []


def test_what_is_said_is_one_line_with_the_figures():
    brighter, stretched = grey_findings([changed(dark=0.3, middle=0.8, bright=0.9, contrast=0.15)] * 20, REFERENCE)
    assert brighter.text.startswith("brighter than the masses compared with, middle grey 0.80 instead of 0.50: gamma")
    assert stretched.text.startswith("stretched in contrast, 3.0 times the grey levels")
    for finding in (brighter, stretched):
        assert "\n" not in finding.text
