"""What is drawn follows the row, and shows more than the row says."""

import numpy as np
import pytest

from shared_model.vocabulary import Laterality, LesionType, Pathology, Split, View
from simulations.phantom.films import FILM_SHAPE, draw_film
from simulations.phantom.patients import Lesion


def lesion(form, extent, *, lesion_type=LesionType.MASS, aggressiveness=0.0):
    return Lesion(
        lesion_type=lesion_type,
        split=Split.TRAIN,
        laterality=Laterality.LEFT,
        number=1,
        views=(View.CC,),
        pathology=Pathology.BENIGN,
        recorded_density=2,
        form=form,
        extent=extent,
        assessment=3,
        subtlety=4,
        aggressiveness=aggressiveness,
    )


def draw(lesions, seed=0, *, density=2, view=View.CC, laterality=Laterality.LEFT):
    return draw_film(lesions, density=density, view=view, laterality=laterality, rng=np.random.default_rng(seed))


def roundness(mask):
    """Area over that of the circle with the same largest radius; 1 for a disc."""
    rows, columns = np.nonzero(mask)
    radius = np.hypot(rows - rows.mean(), columns - columns.mean()).max()
    return len(rows) / (np.pi * radius**2)


@pytest.mark.parametrize("view", View)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_film_and_masks_have_their_form(view, count):
    film = draw([lesion("OVAL", "CIRCUMSCRIBED")] * count, view=view)
    assert film.image.shape == FILM_SHAPE
    assert film.image.dtype == np.float32
    assert 0 <= film.image.min() < film.image.max() <= 1
    assert len(film.masks) == count
    for mask in film.masks:
        assert mask.shape == FILM_SHAPE
        assert set(np.unique(mask)) == {0, 255}
        assert (film.image[mask > 0] > 0).mean() > 0.95


def test_lesions_of_one_film_do_not_overlap():
    film = draw([lesion("ROUND", "CIRCUMSCRIBED")] * 3)
    assert sum((mask > 0).astype(int) for mask in film.masks).max() == 1


def test_a_right_breast_is_the_mirror_image_and_a_left_one_has_its_chest_wall_left():
    left = draw([lesion("OVAL", "OBSCURED")])
    right = draw([lesion("OVAL", "OBSCURED")], laterality=Laterality.RIGHT)
    np.testing.assert_array_equal(right.image, left.image[:, ::-1])
    np.testing.assert_array_equal(right.masks[0], left.masks[0][:, ::-1])
    assert left.image[:, 30].sum() > 10 * left.image[:, -30].sum()


def test_round_masses_are_rounder_than_oval_and_irregular_ones():
    mean = {
        form: np.mean([roundness(draw([lesion(form, "CIRCUMSCRIBED")], seed).masks[0]) for seed in range(12)])
        for form in ("ROUND", "OVAL", "IRREGULAR")
    }
    assert mean["ROUND"] > 0.85
    assert mean["ROUND"] - mean["OVAL"] > 0.1
    assert mean["ROUND"] - mean["IRREGULAR"] > 0.1


def test_denser_breasts_are_brighter():
    means = [np.mean([draw([], seed, density=density).image.mean() for seed in range(4)]) for density in (1, 2, 3, 4)]
    assert means == sorted(means)


@pytest.mark.parametrize("form", ["VASCULAR", "LUCENT_CENTER", "PLEOMORPHIC", "AMORPHOUS", "FINE_LINEAR_BRANCHING", ""])
def test_calcifications_are_small_bright_spots(form):
    spot = lesion(form, "CLUSTERED", lesion_type=LesionType.CALCIFICATION, aggressiveness=-4.0)
    film = draw([spot], 2)
    values = film.image[film.masks[0] > 0]
    assert np.percentile(values, 99.5) > np.median(values) + 0.04


@pytest.mark.parametrize(
    ("lesion_type", "form", "extent"),
    [(LesionType.MASS, "OVAL", "CIRCUMSCRIBED"), (LesionType.CALCIFICATION, "PLEOMORPHIC", "CLUSTERED")],
)
def test_same_row_looks_rougher_the_more_aggressive(lesion_type, form, extent):
    """The edge energy inside the mask tells the classes apart where the columns cannot."""

    def energy(aggressiveness, seed):
        film = draw([lesion(form, extent, lesion_type=lesion_type, aggressiveness=aggressiveness)], seed)
        return np.hypot(*np.gradient(film.image))[film.masks[0] > 0].mean()

    mild = np.array([energy(-1.0, seed) for seed in range(16)])
    wild = np.array([energy(1.0, seed) for seed in range(100, 116)])
    auc = (wild[:, None] > mild[None]).mean()
    assert auc > 0.75


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="density=5"):
        draw([], density=5)
    with pytest.raises(ValueError, match="number of lesions=4 <= 3"):
        draw([lesion("OVAL", "OBSCURED")] * 4)
