"""The strokes that lesions are drawn with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from simulations.phantom.lesion_window import HALF_SIDE, draw_window, fixed_point, logistic, rays, texture


@pytest.fixture(scope="module")
def window(lesion):
    return draw_window(lesion("ROUND", "CIRCUMSCRIBED"), 0.0, np.random.default_rng(0))


def test_distance_and_angle_are_those_from_the_centre(window):
    assert window.distance.shape == window.angle.shape == (2 * HALF_SIDE, 2 * HALF_SIDE)
    assert window.distance[HALF_SIDE, HALF_SIDE] == 0
    # Three to the right and four down.
    place = (HALF_SIDE + 4, HALF_SIDE + 3)
    assert window.distance[place] == 5
    assert window.angle[place] == pytest.approx(np.arctan2(4, 3))


@pytest.mark.parametrize(("aggressiveness", "low", "high"), [(-8, 0, 0.01), (0, 0.3, 0.7), (8, 0.99, 1)])
def test_aggressiveness_is_squashed(lesion, aggressiveness, low, high):
    made = lesion("ROUND", "CIRCUMSCRIBED", aggressiveness=aggressiveness)
    assert low <= draw_window(made, 0.0, np.random.default_rng(0)).aggressiveness <= high


@pytest.mark.parametrize("coarsest", [5, 40])
@pytest.mark.parametrize("octaves", [1, 3])
def test_texture_has_mean_0_and_variance_1(coarsest, octaves):
    values = texture((120, 90), coarsest, np.random.default_rng(1), octaves=octaves)
    assert (values.shape, values.dtype) == ((120, 90), np.float32)
    assert (values.mean(), values.std()) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-5))


def test_coarse_texture_varies_more_slowly_than_fine_one():
    def step(coarsest):
        return np.abs(np.diff(texture((200, 200), coarsest, np.random.default_rng(2), octaves=1))).mean()

    assert step(40) < step(10) < step(2)


@given(st.floats(-1e4, 1e4, width=32))
def test_logistic_is_scipys(value):
    assert logistic(np.float32([value])) == pytest.approx(expit(value), abs=1e-6)


def test_rays_start_near_the_centre_and_end_at_their_length(window):
    drawn = rays(window, 12, length=(1.5, 2.0), rng=np.random.default_rng(3))
    assert 0 <= drawn.min() < drawn.max() <= 1
    reach = window.distance / window.radius
    assert drawn[reach > 2.2].max() < 0.01
    assert drawn[(reach > 1.0) & (reach < 1.4)].max() > 0.2
    assert not rays(window, 0, length=(1.5, 2.0), rng=np.random.default_rng(3)).any()


def test_fixed_point_is_in_sixteenths_of_a_pixel_from_the_corner():
    assert fixed_point(np.array([[0.0, 0.0], [1.5, -HALF_SIDE]])).tolist() == [
        [16 * HALF_SIDE, 16 * HALF_SIDE],
        [16 * HALF_SIDE + 24, 0],
    ]
