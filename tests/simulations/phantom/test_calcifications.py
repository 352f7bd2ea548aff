"""Calcifications are bright specks of the type's size and number, arranged as the distribution says."""

import cv2
import numpy as np
import pytest

from shared_model.vocabulary import LesionType
from simulations.phantom.calcifications import draw_calcifications
from simulations.phantom.lesion_window import HALF_SIDE, draw_window

SEEDS = range(12)
TYPES = [
    "VASCULAR",
    "LUCENT_CENTER",
    "PLEOMORPHIC",
    "AMORPHOUS",
    "FINE_LINEAR_BRANCHING",
    "LARGE_RODLIKE",
    "",
]


@pytest.fixture
def draw(lesion):
    """Draw calcifications of this type and distribution, without signs of aggressiveness."""

    def make(calcification_type, distribution, seed, *, to_nipple=0.0, aggressiveness=-8.0):
        rng = np.random.default_rng(seed)
        drawn = lesion(
            calcification_type, distribution, lesion_type=LesionType.CALCIFICATION, aggressiveness=aggressiveness
        )
        return draw_calcifications(drawn, draw_window(drawn, to_nipple, rng), rng)

    return make


@pytest.mark.parametrize("calcification_type", TYPES)
def test_specks_are_small_and_bright_and_lie_inside_the_mask(draw, calcification_type):
    for seed in SEEDS:
        drawn = draw(calcification_type, "CLUSTERED", seed)
        inside = drawn.mask > 0
        assert set(np.unique(drawn.mask)) == {0, 255}
        assert drawn.attenuation[inside].sum() > 0.9 * drawn.attenuation.sum()
        assert np.percentile(drawn.attenuation[inside], 99.5) > np.median(drawn.attenuation[inside]) + 0.04


def area(drawn):
    """Return how many pixels of the window show a speck."""
    return int((drawn.attenuation > 0.02).sum())


def test_there_are_more_amorphous_specks_than_coarse_ones_and_these_are_larger(draw):
    def mean(calcification_type, measure):
        return np.mean([measure(draw(calcification_type, "REGIONAL", seed)) for seed in SEEDS])

    def num_specks(drawn):
        return cv2.connectedComponents((drawn.attenuation > 0.02).astype(np.uint8))[0] - 1

    def area_each(drawn):
        return area(drawn) / num_specks(drawn)

    assert mean("AMORPHOUS", num_specks) > 5 * mean("COARSE", num_specks)
    assert mean("COARSE", area_each) > 5 * mean("AMORPHOUS", area_each)


def test_rings_are_hollow(draw):
    """The shell of an eggshell calcification is bright, its inside is not."""
    for seed in SEEDS:
        drawn = draw("EGGSHELL", "CLUSTERED", seed)
        _, labels, _, centres = cv2.connectedComponentsWithStats((drawn.attenuation < 0.02).astype(np.uint8))
        # Dark regions other than the surroundings: what the rings enclose.
        assert labels.max() >= 2, centres


def moments(drawn):
    """Return the covariance of where the brightness lies, (x, y), and its larger axis' direction."""
    y, x = np.mgrid[: 2 * HALF_SIDE, : 2 * HALF_SIDE] - HALF_SIDE
    weights = drawn.attenuation / drawn.attenuation.sum()
    covariance = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=weights.ravel())
    values, vectors = np.linalg.eigh(covariance)
    return values, vectors[:, 1]


def test_linear_calcifications_form_a_line_and_clustered_ones_a_heap(draw):
    def elongation(distribution):
        ratios = [np.divide(*moments(draw("PUNCTATE", distribution, seed))[0][::-1]) for seed in SEEDS]
        return np.median(ratios)

    assert elongation("LINEAR") > 20
    assert elongation("CLUSTERED") < 5


@pytest.mark.parametrize("to_nipple", [0.0, 1.0, np.pi / 2])
def test_a_line_points_to_the_nipple(draw, to_nipple):
    for seed in SEEDS:
        _, axis = moments(draw("PUNCTATE", "LINEAR", seed, to_nipple=to_nipple))
        assert abs(axis @ [np.cos(to_nipple), np.sin(to_nipple)]) > 0.98


def test_scattered_calcifications_spread_farther_than_regional_and_these_than_clustered(draw):
    def spread(distribution):
        return np.mean([moments(draw("PUNCTATE", distribution, seed))[0].sum() for seed in SEEDS])

    assert spread("DIFFUSELY_SCATTERED") > spread("REGIONAL") > spread("CLUSTERED")


def test_aggressive_lesions_are_dusted_with_finer_specks(draw):
    for seed in SEEDS:
        mild, wild = (draw("COARSE", "REGIONAL", seed, aggressiveness=value) for value in (-8.0, 8.0))
        assert area(wild) > area(mild)
