"""Every step against a second way: naive loops, exact arithmetic, or a law."""

import dataclasses
import tracemalloc

import cv2
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from client.data.preprocessing import (
    Box,
    GreyImage,
    clahe,
    denoise,
    face_left,
    is_mask,
    mask_box,
    normalise,
    preprocess,
    resize,
    square_crop,
)
from shared_model.config.choices import Denoising, ImageMode, Normalisation
from shared_model.config.site_sections import ImageConfig
from shared_model.vocabulary import Laterality

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))
STORED = SHAPES.flatmap(lambda shape: arrays(np.float32, shape, elements=st.integers(0, 65535).map(float)))
UNIT = SHAPES.flatmap(lambda shape: arrays(np.float32, shape, elements=st.floats(0, 1, width=32)))
BOXES = st.builds(Box, x=st.integers(0, 15), y=st.integers(0, 15), width=st.integers(1, 15), height=st.integers(1, 15))
FULL = (0.0, 65535.0)


def no_padding(pixels):
    return np.zeros(pixels.shape, dtype=bool)


def grey(pixels, **fields):
    values = {"pixels": pixels, "value_range": FULL, "padding": no_padding(pixels), **fields}
    return GreyImage(**values)


def config(**fields):
    values = {
        "mode": ImageMode.CROP,
        "size": 64,
        "context": 1.5,
        "normalisation": Normalisation.FULL_RANGE,
        "denoising": Denoising.NONE,
        "clahe_clip_limit": 0.0,
        "face_left": True,
        **fields,
    }
    return ImageConfig(**values)


class TestGreyImage:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"pixels": np.zeros((2, 2))}, r"float32 pixels \(H, W\), got float64"),
            ({"pixels": np.zeros((2, 2, 3), np.float32)}, r"float32 pixels \(H, W\)"),
            ({"pixels": np.zeros((0, 2), np.float32)}, r"float32 pixels \(H, W\)"),
            ({"padding": np.zeros((3, 2), bool)}, r"bool padding \(2, 2\)"),
            ({"padding": np.zeros((2, 2), np.uint8)}, r"bool padding \(2, 2\), got uint8"),
            ({"value_range": (1.0, 1.0)}, "finite and increasing"),
            ({"value_range": (0.0, float("inf"))}, "finite and increasing"),
        ],
    )
    def test_invalid(self, fields, message):
        with pytest.raises(ValueError, match=message):
            GreyImage(
                **{
                    "pixels": np.zeros((2, 2), np.float32),
                    "value_range": FULL,
                    "padding": np.zeros((2, 2), bool),
                    **fields,
                }
            )


class TestBox:
    @pytest.mark.parametrize("fields", [{"x": -1}, {"y": -1}, {"width": 0}, {"height": 0}])
    def test_invalid(self, fields):
        with pytest.raises(ValueError, match="x, y >= 0 and width, height >= 1"):
            Box(**{"x": 0, "y": 0, "width": 1, "height": 1, **fields})


class TestNormalise:
    @given(STORED, st.sampled_from(Normalisation))
    def test_range(self, pixels, method):
        result = normalise(pixels, FULL, method, no_padding(pixels))
        assert result.dtype == np.float32
        assert result.shape == pixels.shape
        assert 0 <= result.min() <= result.max() <= 1

    @given(STORED)
    def test_full_range_as_exact_arithmetic(self, pixels):
        result = normalise(pixels, (-7.0, 65535.0), Normalisation.FULL_RANGE, no_padding(pixels))
        for value, got in zip(pixels.flat, result.flat, strict=True):
            assert mpmath.almosteq((mpmath.mpf(float(value)) + 7) / 65542, float(got), rel_eps=1e-6, abs_eps=1e-7)

    @given(STORED, st.floats(0.01, 100), st.floats(-1000, 1000))
    def test_min_max_is_invariant_to_rescaling(self, pixels, slope, intercept):
        rescaled = (pixels * np.float64(slope) + intercept).astype(np.float32)
        padding = no_padding(pixels)
        expected = normalise(pixels, FULL, Normalisation.MIN_MAX, padding)
        # float32 keeps 24 bits of the larger of intercept and value.
        contrast = max(float(pixels.max() - pixels.min()) * slope, 1e-9)
        tolerance = 1e-5 + 3e-7 * (abs(intercept) + 65535 * slope) / contrast
        got = normalise(rescaled, FULL, Normalisation.MIN_MAX, padding)
        if pixels.min() < pixels.max() and tolerance < 0.5:
            np.testing.assert_allclose(got, expected, atol=tolerance)

    def test_min_max_by_hand(self):
        pixels = np.array([[10, 20, 50]], np.float32)
        result = normalise(pixels, FULL, Normalisation.MIN_MAX, no_padding(pixels))
        np.testing.assert_allclose(result, [[0, 0.25, 1]])

    def test_percentiles_by_hand(self):
        pixels = np.arange(101, dtype=np.float32)[None]
        result = normalise(pixels, FULL, Normalisation.PERCENTILE, no_padding(pixels))
        np.testing.assert_allclose(result, np.clip((pixels - 1) / 98, 0, 1), atol=1e-6)

    @pytest.mark.parametrize("method", list(Normalisation))
    def test_padding_is_background_and_does_not_count(self, method):
        pixels = np.array([[65535, 100, 200, 300, 0]], np.float32)
        padding = np.array([[True, False, False, False, True]])
        inner = pixels[:, 1:4]
        result = normalise(pixels, FULL, method, padding)
        np.testing.assert_array_equal(result[:, [0, 4]], 0)
        np.testing.assert_array_equal(result[:, 1:4], normalise(inner, FULL, method, no_padding(inner)))

    @given(STORED, st.sampled_from(Normalisation), st.booleans(), st.integers(0, 2**32 - 1))
    def test_to_the_last_bit(self, pixels, method, is_mirrored, seed):
        """What a cache holds was computed by this formula."""
        padding = np.random.default_rng(seed).random(pixels.shape) < 0.2
        if is_mirrored:
            pixels, padding = pixels[:, ::-1], padding[:, ::-1]
        before = pixels.copy()
        result = normalise(pixels, FULL, method, padding)
        np.testing.assert_array_equal(pixels, before)
        inside = before[~padding]
        if not inside.size:
            return
        low, high = {
            Normalisation.FULL_RANGE: FULL,
            Normalisation.MIN_MAX: (float(inside.min()), float(inside.max())),
            Normalisation.PERCENTILE: tuple(float(value) for value in np.percentile(inside, (1, 99))),
        }[method]
        if low < high:
            expected = np.clip((before - np.float32(low)) / np.float32(high - low), 0, 1)
            np.testing.assert_array_equal(result, np.where(padding, np.float32(0), expected))

    def test_a_film_takes_no_copy_of_its_pixels(self):
        """Statistics of all pixels are for the methods that need them."""
        pixels = np.zeros((1000, 1000), np.float32)
        padding = no_padding(pixels)
        tracemalloc.start()
        normalise(pixels, FULL, Normalisation.FULL_RANGE, padding)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 1.1 * pixels.nbytes

    @pytest.mark.parametrize("method", [Normalisation.MIN_MAX, Normalisation.PERCENTILE])
    def test_constant(self, method):
        pixels = np.full((3, 4), 9, np.float32)
        np.testing.assert_array_equal(normalise(pixels, FULL, method, no_padding(pixels)), 0)

    @pytest.mark.parametrize("method", list(Normalisation))
    def test_all_padding(self, method):
        pixels = np.full((3, 4), 9, np.float32)
        np.testing.assert_array_equal(normalise(pixels, FULL, method, np.ones((3, 4), bool)), 0)


class TestDenoise:
    def test_none(self):
        image = np.random.default_rng(0).random((9, 8), np.float32)
        assert denoise(image, Denoising.NONE) is image

    def test_median_as_a_loop(self):
        image = np.random.default_rng(0).random((9, 8), np.float32)
        padded = np.pad(image, 1, mode="edge")
        expected = [[np.median(padded[row : row + 3, column : column + 3]) for column in range(8)] for row in range(9)]
        np.testing.assert_array_equal(denoise(image, Denoising.MEDIAN), np.array(expected, np.float32))

    def test_non_local_means_keeps_an_edge_and_removes_grain(self):
        clean = np.full((64, 64), 0.3, np.float32)
        clean[:, 32:] = 0.6
        noisy = clean + np.random.default_rng(0).normal(0, 0.005, clean.shape).astype(np.float32)
        smooth = denoise(noisy, Denoising.NON_LOCAL_MEANS)
        assert np.abs(smooth - clean).mean() < 0.5 * np.abs(noisy - clean).mean()
        assert (smooth[:, 32] - smooth[:, 31]).min() > 0.25

    @settings(max_examples=20)
    @given(UNIT, st.sampled_from(Denoising))
    def test_range(self, image, method):
        result = denoise(image, method)
        assert result.dtype == np.float32
        assert result.shape == image.shape
        assert 0 <= result.min() <= result.max() <= 1


def naive_clahe(levels, clip_limit):
    """Zuiderveld 1994 on 8 x 8 whole tiles: clip, redistribute, equalise, interpolate between tile centres."""
    tile = levels.shape[0] // 8
    limit = max(int(clip_limit * tile * tile / 256), 1)
    curves = np.zeros((8, 8, 256))
    for i, j in np.ndindex(8, 8):
        part = levels[i * tile : (i + 1) * tile, j * tile : (j + 1) * tile]
        counts = np.bincount(part.ravel(), minlength=256)
        excess = int(np.maximum(counts - limit, 0).sum())
        counts = np.minimum(counts, limit) + excess // 256
        if excess % 256:
            step = max(256 // (excess % 256), 1)
            counts[: step * (excess % 256) : step] += 1
        curves[i, j] = np.round(np.cumsum(counts) * (255 / tile**2))
    result = np.zeros(levels.shape)
    for row, column in np.ndindex(levels.shape):
        y, x = row / tile - 0.5, column / tile - 0.5
        top, left = int(np.floor(y)), int(np.floor(x))
        for i, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
            for j, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
                curve = curves[min(max(i, 0), 7), min(max(j, 0), 7)]
                result[row, column] += weight_y * weight_x * curve[levels[row, column]]
    return np.round(result)


class TestClahe:
    @pytest.mark.parametrize("clip_limit", [1.0, 3.0, 40.0])
    def test_as_a_loop(self, clip_limit):
        levels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (96, 96)).astype(np.uint8), (0, 0), 2)
        result = clahe(levels.astype(np.float32) / 255, clip_limit) * 255
        assert np.abs(result - naive_clahe(levels, clip_limit)).max() <= 1

    def test_limit_limits_contrast_on_a_small_crop(self):
        rows, columns = np.mgrid[:128, :128]
        image = (0.4 + 0.1 * np.exp(-((rows - 64) ** 2 + (columns - 64) ** 2) / 800)).astype(np.float32)
        contrasts = [float(clahe(image, limit).std()) for limit in (1, 2, 4)]
        assert contrasts == sorted(contrasts)
        assert contrasts[-1] > 1.5 * contrasts[0]

    def test_zero_switches_it_off(self):
        image = np.random.default_rng(0).random((9, 8), np.float32)
        assert clahe(image, 0.0) is image

    @settings(max_examples=30)
    @given(UNIT, st.floats(0.1, 100))
    def test_range(self, image, clip_limit):
        result = clahe(image, clip_limit)
        assert result.dtype == np.float32
        assert result.shape == image.shape
        assert 0 <= result.min() <= result.max() <= 1


class TestResize:
    def test_shrinking_averages_blocks(self):
        image = np.random.default_rng(0).random((12, 12), np.float32)
        expected = image.reshape(4, 3, 4, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(resize(image, 4), expected, atol=1e-6)

    def test_growing_is_linear_between_pixel_centres(self):
        image = np.array([[0, 1], [0, 1]], np.float32)
        np.testing.assert_allclose(resize(image, 4), [[0, 0.25, 0.75, 1]] * 4, atol=1e-6)

    def test_portrait_is_centred_between_zeros(self):
        square = resize(np.ones((8, 4), np.float32), 8)
        np.testing.assert_array_equal(square, [[0, 0, 1, 1, 1, 1, 0, 0]] * 8)

    def test_landscape_is_centred_between_zeros(self):
        square = resize(np.ones((2, 16), np.float32), 8)
        np.testing.assert_array_equal(square.sum(axis=1), [0, 0, 0, 8, 0, 0, 0, 0])

    @given(UNIT, st.integers(1, 64))
    def test_shape_and_range(self, image, size):
        square = resize(image, size)
        assert square.shape == (size, size)
        assert square.dtype == np.float32
        assert square.min() >= 0
        assert square.max() <= image.max() + 1e-6

    @given(UNIT)
    def test_same_size_is_the_same(self, image):
        square = image[: min(image.shape), : min(image.shape)]
        np.testing.assert_array_equal(resize(square, len(square)), square)


class TestFaceLeft:
    def test_right_is_mirrored(self):
        np.testing.assert_array_equal(face_left(np.array([[1, 2, 3]], np.float32), Laterality.RIGHT), [[3, 2, 1]])

    def test_no_pixel_is_copied(self):
        image = np.ones((3, 4), np.float32)
        assert np.shares_memory(face_left(image, Laterality.RIGHT), image)

    @given(UNIT, st.sampled_from([None, *Laterality]))
    def test_involution(self, image, laterality):
        np.testing.assert_array_equal(face_left(face_left(image, laterality), laterality), image)

    @given(UNIT, st.sampled_from([None, Laterality.LEFT]))
    def test_others_stay(self, image, laterality):
        assert face_left(image, laterality) is image


class TestIsMask:
    @pytest.mark.parametrize("mark", [1, 255, 65535, 0.5])
    def test_two_values(self, mark):
        assert is_mask(np.array([[0, mark], [0, 0]], np.float32))

    @pytest.mark.parametrize("values", [[0, 0], [255, 255], [1, 2], [0, 1, 2], [-1, 0]])
    def test_others(self, values):
        assert not is_mask(np.array([values], np.float32))

    @given(STORED)
    def test_counts_values(self, pixels):
        values = set(pixels.ravel().tolist())
        assert is_mask(pixels) == (len(values) == 2 and min(values) == 0)

    @pytest.mark.parametrize("row", [0, 1, 37, 99])
    def test_a_third_value_in_any_row(self, row):
        pixels = np.zeros((100, 2), np.float32)
        pixels[50] = 255
        assert is_mask(pixels)
        pixels[row, 1] = 7
        assert not is_mask(pixels)

    def test_a_mark_in_one_row(self):
        """Of which the rows that are looked at first may show nothing, or all."""
        for row in range(100):
            pixels = np.zeros((100, 2), np.float32)
            pixels[row, 1] = 255
            assert is_mask(pixels)
            assert is_mask(255 - pixels)


class TestMaskBox:
    def test_by_hand(self):
        mask = np.zeros((6, 8))
        mask[2, 3] = mask[4, 5] = 255
        assert mask_box(mask) == Box(x=3, y=2, width=3, height=3)

    @given(arrays(np.bool_, SHAPES).filter(np.any))
    def test_as_a_loop(self, mask):
        points = [(row, column) for row, column in np.ndindex(mask.shape) if mask[row, column]]
        rows, columns = zip(*points, strict=True)
        box = mask_box(mask)
        assert (box.y, box.y + box.height - 1) == (min(rows), max(rows))
        assert (box.x, box.x + box.width - 1) == (min(columns), max(columns))

    def test_empty(self):
        with pytest.raises(ValueError, match="a mask with a pixel != 0"):
            mask_box(np.zeros((3, 3)))


class TestSquareCrop:
    def test_by_hand(self):
        film = np.arange(20.0).reshape(4, 5)
        np.testing.assert_array_equal(square_crop(film, Box(x=1, y=1, width=2, height=1), 1), [[1, 2], [6, 7]])

    def test_context_widens_about_the_centre(self):
        film = np.arange(100.0).reshape(10, 10)
        box = Box(x=4, y=4, width=2, height=2)
        np.testing.assert_array_equal(square_crop(film, box, 2), film[3:7, 3:7])

    @settings(max_examples=50)
    @given(STORED, BOXES, st.floats(1, 3))
    def test_as_a_loop(self, film, box, context):
        square = square_crop(film, box, context)
        side = len(square)
        assert square.shape == (side, side)
        assert abs(side - context * max(box.width, box.height)) <= 0.5
        top, left = (2 * box.y + box.height - side) // 2, (2 * box.x + box.width - side) // 2
        assert abs((top + side / 2) - (box.y + box.height / 2)) <= 0.5
        assert abs((left + side / 2) - (box.x + box.width / 2)) <= 0.5
        height, width = film.shape
        expected = np.zeros((side, side), film.dtype)
        for i, j in np.ndindex(side, side):
            row, column = top + i, left + j
            if 0 <= row < height and 0 <= column < width:
                expected[i, j] = film[row, column]
        np.testing.assert_array_equal(square, expected)

    def test_keeps_the_dtype(self):
        assert square_crop(np.ones((3, 3), bool), Box(x=0, y=0, width=1, height=1), 3).dtype == bool


class TestToInput:
    @settings(max_examples=60)
    @given(
        STORED,
        st.sampled_from(Normalisation),
        st.sampled_from(Denoising),
        st.sampled_from([0.0, 2.0]),
        st.sampled_from([None, *Laterality]),
        st.none() | BOXES,
    )
    def test_range(self, pixels, normalisation, denoising, clip_limit, laterality, box):
        image = config(
            mode=ImageMode.CROP if box is None else ImageMode.ROI,
            normalisation=normalisation,
            denoising=denoising,
            clahe_clip_limit=clip_limit,
        )
        result = preprocess(grey(pixels), image, laterality=laterality, box=box)
        assert result.shape == (64, 64)
        assert result.dtype == np.float32
        assert 0 <= result.min() <= result.max() <= 1

    def test_full_range_crop_by_hand(self):
        pixels = np.full((64, 32), 65535 / 4, np.float32)
        result = preprocess(grey(pixels), config(), laterality=None, box=None)
        np.testing.assert_allclose(result[:, 16:48], 0.25, atol=1e-6)
        np.testing.assert_array_equal(result[:, :16], 0)

    def test_roi_statistics_are_those_of_the_lesion(self):
        pixels = np.full((100, 100), 60000, np.float32)
        pixels[40:60, 40:60] = np.linspace(100, 200, 20)
        image = config(mode=ImageMode.ROI, context=1.0, normalisation=Normalisation.MIN_MAX)
        result = preprocess(grey(pixels), image, laterality=None, box=Box(x=40, y=40, width=20, height=20))
        assert (result.min(), result.max()) == (0, 1)
        assert np.all(np.diff(result, axis=1) >= 0)

    def test_beyond_the_film_is_background_not_a_minimum(self):
        pixels = np.tile(np.array([[1000, 2000]], np.float32), (20, 10))
        image = config(mode=ImageMode.ROI, context=1.0, normalisation=Normalisation.MIN_MAX)
        result = preprocess(grey(pixels), image, laterality=None, box=Box(x=10, y=0, width=20, height=20))
        np.testing.assert_allclose(result[:, :32].mean(), 0.5, atol=0.05)
        np.testing.assert_array_equal(result[:, 34:], 0)

    @pytest.mark.parametrize("box", [None, Box(x=3, y=5, width=20, height=10), Box(x=50, y=0, width=7, height=30)])
    @pytest.mark.parametrize("laterality", [None, *Laterality])
    def test_a_breast_gives_the_same_pixels_however_its_picture_is_drawn(self, box, laterality):
        pixels = np.random.default_rng(0).integers(0, 65535, (64, 70)).astype(np.float32)
        image = config(mode=ImageMode.CROP if box is None else ImageMode.ROI)
        other = None if box is None else dataclasses.replace(box, x=70 - box.x - box.width)
        left = preprocess(grey(pixels), image, laterality=Laterality.LEFT, box=box)
        mirror = grey(np.ascontiguousarray(pixels[:, ::-1]))
        np.testing.assert_array_equal(preprocess(mirror, image, laterality=Laterality.RIGHT, box=other), left)
        for drawn, is_left, place in ((grey(pixels), True, box), (mirror, False, other)):
            told = dataclasses.replace(drawn, chest_wall_left=is_left)
            np.testing.assert_array_equal(preprocess(told, image, laterality=laterality, box=place), left)

    def test_mirroring_can_be_off(self):
        pixels = np.random.default_rng(0).integers(0, 65535, (64, 64)).astype(np.float32)
        left, right = (
            preprocess(grey(pixels), config(face_left=False), laterality=side, box=None) for side in Laterality
        )
        np.testing.assert_array_equal(right, left)

    @pytest.mark.parametrize(
        ("mode", "box"),
        [
            (ImageMode.ROI, None),
            (ImageMode.CROP, Box(x=0, y=0, width=1, height=1)),
            (ImageMode.FILM, Box(x=0, y=0, width=1, height=1)),
        ],
    )
    def test_box_and_mode_must_agree(self, mode, box):
        with pytest.raises(ValueError, match="a box in roi mode and in no other"):
            preprocess(grey(np.ones((4, 4), np.float32)), config(mode=mode), laterality=None, box=box)
