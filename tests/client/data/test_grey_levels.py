"""Grey levels by hand, of the phantom and of real films and patches, and of their negatives."""

import dataclasses
import math

import numpy as np
import pytest

from client.data.grey_levels import GreyLevels, grey_levels, is_faint
from client.data.images import read_image
from client.data.preprocessing import preprocess, resize
from shared_model.config.choices import Denoising, ImageMode, Normalisation
from shared_model.config.site_sections import ImageConfig
from simulations.phantom.write import write_phantom
from tests.real_data import CBIS_DDSM, needs_cbis_ddsm


def config(mode):
    return ImageConfig(
        mode=mode,
        size=128,
        context=1.5,
        normalisation=Normalisation.FULL_RANGE,
        denoising=Denoising.NONE,
        clahe_clip_limit=0.0,
        face_left=True,
    )


def pictures(paths, mode, *, is_negative=False):
    """What the network sees of crops or films, or of their negatives."""
    found = []
    for path in paths:
        grey = read_image(path)
        if is_negative:
            grey = dataclasses.replace(grey, pixels=np.float32(sum(grey.value_range)) - grey.pixels)
        found.append(preprocess(grey, config(mode), laterality=grey.laterality, box=None))
    return found


def share_negative(images, mode):
    return np.mean([grey_levels(image, mode).looks_negative for image in images])


def test_by_hand():
    picture = np.zeros((16, 16), np.float32)
    picture[:, :8] = 0.2
    picture[4:12, 4:12] = 0.6
    # 64 pixels of 0.6 and 96 of 0.2; the rim of two pixels is half 0 and half 0.2.
    levels = grey_levels(picture, ImageMode.CROP)
    np.testing.assert_allclose([levels.dark, levels.middle, levels.bright], [0.2, 0.2, 0.6], rtol=1e-6)
    assert 0.4 <= levels.contrast <= 0.6
    assert not levels.looks_negative
    assert levels.white == 0
    assert levels.log_range == pytest.approx(math.log(0.4))
    assert levels.relative_contrast == pytest.approx(levels.contrast / 0.4)


def test_what_is_as_bright_as_can_be():
    picture = np.full((10, 10), 0.5, np.float32)
    picture[0, :4] = 0.9985
    assert grey_levels(picture, ImageMode.CROP).white == pytest.approx(0.04)


@pytest.mark.parametrize("mode", list(ImageMode))
def test_nothing_to_see(mode):
    assert grey_levels(np.zeros((32, 32), np.float32), mode) == GreyLevels(
        dark=0, middle=0, bright=0, contrast=0, white=0
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 32), (32, 1), (3, 3), (20, 32)])
def test_any_film_has_a_contrast(shape):
    picture = np.zeros((32, 32), np.float32)
    picture[: shape[0], : shape[1]] = 0.5
    assert -1 <= grey_levels(picture, ImageMode.FILM).contrast <= 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, False), (0.3, 0.6, False), (0, 0.05, True), (0.94, 1, True), (0.5, 0.55, True), (0, 0.11, False)],
)
def test_faint(low, high, expected):
    ramp = np.linspace(low, high, 32, dtype=np.float32)
    assert is_faint(np.tile(ramp, (32, 1))) is expected


def test_a_bright_film_that_was_made_square_is_still_faint():
    """12 bits in 16, MONOCHROME1: all of it nearly white, between black bars."""
    assert is_faint(resize(np.linspace(0.95, 1, 320, dtype=np.float32).reshape(32, 10), 32))


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom")
    write_phantom(root, num_patients=12, seed=0, progress=lambda done: None)
    return root


class TestPhantom:
    def test_films(self, phantom):
        films = [path for path in phantom.rglob("*.dcm") if b"full mammogram images" in path.read_bytes()[:2000]]
        seen = pictures(sorted(films), ImageMode.FILM)
        assert len(seen) > 8
        assert share_negative(seen, ImageMode.FILM) == 0
        assert share_negative(pictures(sorted(films), ImageMode.FILM, is_negative=True), ImageMode.FILM) == 1


@needs_cbis_ddsm
class TestRealImages:
    def test_films(self):
        films = [next(path.rglob("*.dcm")) for path in CBIS_DDSM.glob("Mass-Test_P_*_LEFT_*[CO]")]
        seen = pictures(sorted(films), ImageMode.FILM)
        assert len(seen) == 4
        assert share_negative(seen, ImageMode.FILM) == 0
        assert share_negative(pictures(sorted(films), ImageMode.FILM, is_negative=True), ImageMode.FILM) == 1
        assert not any(map(is_faint, seen))

    def test_patches_and_their_negatives(self):
        paths = sorted(CBIS_DDSM.glob("Mass-*_1/*/*/1-1.dcm"))[::4]
        seen = pictures(paths, ImageMode.CROP)
        assert len(seen) > 300
        assert share_negative(seen, ImageMode.CROP) < 0.1
        assert share_negative([1 - image for image in seen], ImageMode.CROP) > 0.9
        assert np.mean([is_faint(image) for image in seen]) < 0.01
