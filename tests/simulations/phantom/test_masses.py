"""Masses have the outline that their shape says and the border that their margins say."""

import numpy as np
import pytest

from simulations.phantom.lesion_window import HALF_SIDE, LESION_RADIUS, draw_window
from simulations.phantom.masses import draw_mass

SEEDS = range(12)


@pytest.fixture
def draw(lesion):
    """Draw a mass with these descriptors and return its window and itself."""

    def make(shape, margins, seed, **changes):
        rng, mass = np.random.default_rng(seed), lesion(shape, margins, **changes)
        window = draw_window(mass, 0.0, rng)
        return window, draw_mass(mass, window, rng)

    return make


def roundness(mask):
    """Area over that of the circle with the same largest radius; 1 for a disc."""
    rows, columns = np.nonzero(mask)
    radius = np.hypot(rows - rows.mean(), columns - columns.mean()).max()
    return len(rows) / (np.pi * radius**2)


def test_round_masses_are_rounder_than_oval_and_irregular_ones(draw):
    mean = {
        shape: np.mean([roundness(draw(shape, "CIRCUMSCRIBED", seed)[1].mask) for seed in SEEDS])
        for shape in ("ROUND", "OVAL", "IRREGULAR")
    }
    assert mean["ROUND"] > 0.85
    assert mean["ROUND"] - mean["OVAL"] > 0.1
    assert mean["ROUND"] - mean["IRREGULAR"] > 0.1


@pytest.mark.parametrize("shape", ["ROUND", "OVAL", "LOBULATED", "IRREGULAR", "LYMPH_NODE", "NA", ""])
def test_a_mass_lies_inside_its_mask_round_the_centre(draw, shape):
    for seed in SEEDS:
        window, drawn = draw(shape, "CIRCUMSCRIBED", seed)
        inside = drawn.mask > 0
        assert set(np.unique(drawn.mask)) == {0, 255}
        assert inside[HALF_SIDE, HALF_SIDE]
        assert drawn.attenuation.min() >= 0
        assert drawn.attenuation[inside].sum() > 0.95 * drawn.attenuation.sum()
        assert LESION_RADIUS[0] <= window.radius <= LESION_RADIUS[1]
        # No outline reaches beyond 1.5 radii.
        assert window.distance[inside].max() <= 1.5 * window.radius + 1


def edge_width(window, drawn):
    """Return over how many pixels the mean profile falls from three quarters to a quarter of its largest value."""
    rings = window.distance.round().astype(int).ravel()
    profile = np.bincount(rings, drawn.attenuation.ravel()) / np.bincount(rings)
    return np.argmax(profile < 0.25 * profile.max()) - np.argmax(profile < 0.75 * profile.max())


def test_ill_defined_borders_fade_more_slowly_than_circumscribed_ones(draw):
    sharp, vague = (
        np.mean([edge_width(*draw("ROUND", margins, seed)) for seed in SEEDS])
        for margins in ("CIRCUMSCRIBED", "ILL_DEFINED")
    )
    assert vague > 1.25 * sharp


def outside(window, drawn):
    """Return how much is drawn between 1.1 and 1.6 radii."""
    reach = window.distance / window.radius
    return drawn.attenuation[(reach > 1.1) & (reach < 1.6)].sum()


def test_spiculated_masses_have_rays_outside_and_circumscribed_ones_do_not(draw):
    for seed in SEEDS:
        assert outside(*draw("ROUND", "SPICULATED", seed)) > 3 * outside(*draw("ROUND", "CIRCUMSCRIBED", seed))


def test_an_asymmetry_is_fainter_than_a_mass_and_a_distortion_fainter_still(draw):
    peak = {
        shape: np.mean([draw(shape, "CIRCUMSCRIBED", seed)[1].attenuation.max() for seed in SEEDS])
        for shape in ("OVAL", "ASYMMETRIC_BREAST_TISSUE")
    }
    assert peak["ASYMMETRIC_BREAST_TISSUE"] == pytest.approx(0.6 * peak["OVAL"], rel=0.1)


def test_a_lymph_node_has_a_darker_hilum_than_an_oval_mass(draw):
    for seed in SEEDS:
        window, node = draw("LYMPH_NODE", "CIRCUMSCRIBED", seed)
        _, oval = draw("OVAL", "CIRCUMSCRIBED", seed)
        hilum = (HALF_SIDE, HALF_SIDE + round(0.4 * window.radius))
        assert node.attenuation[hilum] < 0.5 * oval.attenuation[hilum]


@pytest.mark.parametrize(("low", "high"), [(1, 5)])
def test_a_subtle_mass_has_less_contrast_than_an_obvious_one(draw, low, high):
    for seed in SEEDS:
        subtle, obvious = (draw("ROUND", "CIRCUMSCRIBED", seed, subtlety=value)[1] for value in (low, high))
        # 0.13 + 0.015 for every grade.
        assert obvious.attenuation.max() / subtle.attenuation.max() == pytest.approx(0.205 / 0.145, rel=1e-4)
