"""Gates of films: kind of picture, box, spacing, side and view, each for the reason that it names."""

import dataclasses

import numpy as np
import pytest

from client.data.preprocessing import Box, GreyImage, OtherView
from client.reading.gates import (
    OpenedPicture,
    check_box_on_breast,
    check_metadata,
    check_request,
    check_shape,
    has_dark_tissue,
)
from client.reading.request import Picture
from client.reading.result import Reason
from shared_model.config import compose
from shared_model.release.document import InputContract, column_contracts
from shared_model.vocabulary import Laterality, View
from tests.releases import OVERRIDES


def contract(*overrides):
    config = compose([*OVERRIDES, *overrides])
    return InputContract(
        image=config.data.image,
        model=config.model,
        features=config.data.features,
        views=config.data.views,
        lesion_types=config.data.lesion_types,
        columns=column_contracts(config.data.features, config.model.modality),
        grey_reference=None,
    )


def film(*, is_negative=False, height=1200, width=800):
    """A half disc of tissue at the left edge, with grain, on dark air."""
    rows, columns = np.mgrid[:height, :width]
    is_breast = np.hypot(rows - height / 2, columns) < 0.45 * height
    pixels = np.where(is_breast, 0.6, 0.05) + np.random.default_rng(0).normal(scale=0.01, size=is_breast.shape)
    return (1 - pixels if is_negative else pixels).astype(np.float32)


def opened(pixels=None, *, view=None, box=None, number=0, **facts):
    pixels = film() if pixels is None else pixels
    grey = GreyImage(pixels=pixels, value_range=(0.0, 1.0), padding=np.zeros(pixels.shape, dtype=bool), **facts)
    return OpenedPicture(picture=Picture(path="film", view=view, box=box), grey=grey, sha256=f"{number:064x}")


def codes(whys):
    return [each.code for each in whys]


ON_BREAST, ON_AIR = Box(x=100, y=500, width=120, height=120), Box(x=650, y=40, width=120, height=120)


class TestFilms:
    def test_one_in_order_passes(self):
        roi, picture = contract("data.image.mode=roi"), opened(box=ON_BREAST)
        found = [*check_request([picture.picture], roi), *check_shape(picture, roi), *check_box_on_breast(picture)]
        assert found == []
        assert not has_dark_tissue(picture.grey.pixels, picture, roi.image, Laterality.LEFT)

    def test_a_negative_is_known_by_breast_and_air(self):
        roi, picture = contract("data.image.mode=roi"), opened(film(is_negative=True), box=ON_BREAST)
        assert has_dark_tissue(picture.grey.pixels, picture, roi.image, Laterality.LEFT)

    def test_a_right_breast_is_turned_before_it_is_judged(self):
        roi, image = contract("data.image.mode=roi").image, np.ascontiguousarray(film()[:, ::-1])
        assert not has_dark_tissue(image, opened(image), roi, Laterality.RIGHT)
        assert has_dark_tissue(image, opened(image), roi, Laterality.LEFT)

    def test_a_box_beside_the_breast(self):
        assert codes(check_box_on_breast(opened(box=ON_AIR))) == [Reason.BOX]

    def test_a_box_beyond_the_film(self):
        found = check_shape(opened(box=Box(x=790, y=5, width=20, height=20)), contract("data.image.mode=roi"))
        assert codes(found) == [Reason.BOX]

    @pytest.mark.parametrize("size", [(1, 1), (5, 5), (8, 100), (100, 8), (790, 790), (799, 600)])
    def test_a_box_that_is_a_slip_of_the_hand(self, size):
        picture = opened(box=Box(x=0, y=0, width=size[0], height=size[1]))
        assert codes(check_shape(picture, contract("data.image.mode=roi"))) == [Reason.BOX]

    @pytest.mark.parametrize("size", [(6, 6), (12, 90), (700, 600)])
    def test_a_box_of_any_lesion(self, size):
        picture = opened(box=Box(x=0, y=0, width=size[0], height=size[1]))
        assert codes(check_shape(picture, contract("data.image.mode=roi"))) == []

    def test_a_film_without_a_box(self):
        assert codes(check_request([opened().picture], contract("data.image.mode=roi"))) == [Reason.BOX]

    def test_a_crop_and_a_mask(self):
        roi = contract("data.image.mode=roi")
        assert codes(check_shape(opened(film(height=300, width=300)), roi)) == [Reason.MODE]
        assert codes(check_shape(opened((film() > 0.3).astype(np.float32)), roi)) == [Reason.FILE]


class TestMetadata:
    @pytest.mark.parametrize(
        ("first", "second", "laterality", "expected"),
        [
            ({"view": View.CC}, {"view": View.MLO}, Laterality.LEFT, []),
            ({"laterality": Laterality.LEFT}, {"laterality": Laterality.LEFT}, Laterality.LEFT, []),
            ({"pixel_spacing": (0.07, 0.07)}, {"pixel_spacing": (0.07, 0.07)}, None, []),
            ({"laterality": Laterality.LEFT}, {"laterality": Laterality.RIGHT}, None, [Reason.LATERALITY]),
            ({"laterality": Laterality.LEFT}, {}, Laterality.RIGHT, [Reason.LATERALITY]),
            ({"pixel_spacing": (0.07, 0.1)}, {}, None, [Reason.SPACING]),
            ({"pixel_spacing": (0.07, 0.07)}, {"pixel_spacing": (0.1, 0.1)}, None, [Reason.SPACING]),
        ],
    )
    def test_files_against_each_other_and_the_table(self, first, second, laterality, expected):
        views = first.pop("view", None), second.pop("view", None)
        pictures = [opened(view=views[0], **first), opened(film() * 0.9, view=views[1], number=1, **second)]
        assert codes(check_metadata(pictures, laterality)) == expected

    def test_a_file_of_another_view_than_declared(self):
        for found in ({"view": View.MLO}, {"other_view": OtherView.ML}):
            picture = opened(view=View.CC)
            picture = dataclasses.replace(picture, grey=dataclasses.replace(picture.grey, **found))
            assert codes(check_metadata([picture], None)) == [Reason.VIEW]

    def test_the_same_pixels_in_another_file(self):
        assert codes(check_metadata([opened(view=View.CC), opened(view=View.MLO, number=1)], None)) == [Reason.VIEWS]

    def test_two_of_one_view(self):
        pictures = [opened(view=View.CC), opened(film() * 0.9, view=View.CC, number=1)]
        assert codes(check_metadata(pictures, None)) == [Reason.VIEWS]
        assert codes(check_request([each.picture for each in pictures], contract())) == [Reason.VIEWS]


def test_a_network_of_one_view_takes_one():
    pictures = [Picture(path="a", view=View.CC), Picture(path="b", view=View.MLO)]
    assert codes(check_request(pictures, contract("data.views=own"))) == [Reason.VIEWS]
    assert codes(check_request(pictures, contract())) == []
