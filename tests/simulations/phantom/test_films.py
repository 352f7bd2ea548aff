"""What is drawn follows the row, and shows more than the row says."""

import numpy as np
import pytest

from shared_model.vocabulary import Laterality, LesionType, View
from simulations.phantom.films import FILM_SHAPE, draw_film


def draw(lesions, seed=0, *, density=2, view=View.CC, laterality=Laterality.LEFT):
    return draw_film(lesions, density=density, view=view, laterality=laterality, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("view", View)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_film_and_masks_have_their_form(lesion, view, count):
    film = draw([lesion("OVAL", "CIRCUMSCRIBED")] * count, view=view)
    assert film.image.shape == FILM_SHAPE
    assert film.image.dtype == np.float32
    assert 0 <= film.image.min() < film.image.max() <= 1
    assert len(film.masks) == count
    for mask in film.masks:
        assert mask.shape == FILM_SHAPE
        assert set(np.unique(mask)) == {0, 255}
        assert (film.image[mask > 0] > 0).mean() > 0.95


def test_lesions_of_one_film_do_not_overlap(lesion):
    film = draw([lesion("ROUND", "CIRCUMSCRIBED")] * 3)
    assert sum((mask > 0).astype(int) for mask in film.masks).max() == 1


def test_a_right_breast_is_the_mirror_image_and_a_left_one_has_its_chest_wall_left(lesion):
    left = draw([lesion("OVAL", "OBSCURED")])
    right = draw([lesion("OVAL", "OBSCURED")], laterality=Laterality.RIGHT)
    np.testing.assert_array_equal(right.image, left.image[:, ::-1])
    np.testing.assert_array_equal(right.masks[0], left.masks[0][:, ::-1])
    assert left.image[:, 30].sum() > 10 * left.image[:, -30].sum()


def test_denser_breasts_are_brighter():
    means = [np.mean([draw([], seed, density=density).image.mean() for seed in range(4)]) for density in (1, 2, 3, 4)]
    assert means == sorted(means)


@pytest.mark.parametrize(
    "calcification_type", ["VASCULAR", "LUCENT_CENTER", "PLEOMORPHIC", "AMORPHOUS", "FINE_LINEAR_BRANCHING", ""]
)
def test_calcifications_are_small_bright_spots(lesion, calcification_type):
    spot = lesion(calcification_type, "CLUSTERED", lesion_type=LesionType.CALCIFICATION, aggressiveness=-4.0)
    film = draw([spot], 2)
    values = film.image[film.masks[0] > 0]
    assert np.percentile(values, 99.5) > np.median(values) + 0.04


@pytest.mark.parametrize(
    ("lesion_type", "descriptors"),
    [(LesionType.MASS, ("OVAL", "CIRCUMSCRIBED")), (LesionType.CALCIFICATION, ("PLEOMORPHIC", "CLUSTERED"))],
)
def test_same_row_looks_rougher_the_more_aggressive(lesion, lesion_type, descriptors):
    """The edge energy inside the mask tells the classes apart where the columns cannot."""

    def energy(aggressiveness, seed):
        film = draw([lesion(*descriptors, lesion_type=lesion_type, aggressiveness=aggressiveness)], seed)
        return np.hypot(*np.gradient(film.image))[film.masks[0] > 0].mean()

    mild = np.array([energy(-1.0, seed) for seed in range(16)])
    wild = np.array([energy(1.0, seed) for seed in range(100, 116)])
    auc = (wild[:, None] > mild[None]).mean()
    assert auc > 0.75


def test_bad_arguments_are_named(lesion):
    with pytest.raises(ValueError, match="density=5"):
        draw([], density=5)
    with pytest.raises(ValueError, match="number of lesions=4 <= 3"):
        draw([lesion("OVAL", "OBSCURED")] * 4)


def test_only_an_mlo_view_shows_the_pectoral_muscle_in_the_upper_corner():
    def corner(view):
        return np.mean([draw([], seed, view=view).image[60:160, :40].mean() for seed in range(4)])

    assert corner(View.MLO) > corner(View.CC) + 0.05


def test_the_same_generator_draws_the_same_film(lesion):
    first, second = (draw([lesion("OVAL", "OBSCURED")], 7) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    assert not np.array_equal(first.image, draw([lesion("OVAL", "OBSCURED")], 8).image)
