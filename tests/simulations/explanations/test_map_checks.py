"""Figures of maps whose quality is known beforehand, and their means."""

import numpy as np
import pytest

from simulations.explanations import map_checks
from simulations.explanations.faithfulness import deletion, insertion
from simulations.explanations.map_checks import METHODS, LesionMaps, check_maps, summarise_checks

SIZE = 32
LESION = np.zeros((SIZE, SIZE), dtype=bool)
LESION[4:12, 4:12] = True
IMAGE = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32) * LESION
GOOD = LESION.astype(np.float32)
RANDOM = np.random.default_rng(1).random((SIZE, SIZE), dtype=np.float32)


class Scorer:
    """Scores by the fine structure inside the lesion alone."""

    def probability(self, pixels):
        return float(min(1.0, 3 * pixels[0].numpy()[LESION].std()))


@pytest.fixture
def figures(monkeypatch):
    """Check a good map and its opposite, as if the network with shuffled weights gave noise for both."""

    def check(lesion=LESION):
        monkeypatch.setattr(map_checks, "METHODS", dict.fromkeys(("good", "bad"), lambda _scorer, _pixels: RANDOM))
        maps = LesionMaps(saliency={"good": GOOD, "bad": 1 - GOOD}, random=RANDOM, lesion=lesion)
        return check_maps(Scorer(), Scorer(), IMAGE, maps)

    return check


def test_a_map_on_the_lesion_is_better_than_chance_and_its_opposite_worse(figures):
    found = figures()
    good, bad = found["good"], found["bad"]
    assert (good["energy"], good["pointing"], good["area"]) == (1.0, 1.0, LESION.mean())
    assert (bad["energy"], bad["pointing"]) == (0.0, 0.0)
    assert good["deletion"] < good["deletion_random"] < bad["deletion"]
    assert good["insertion"] > good["insertion_random"] > bad["insertion"]
    # One random order serves all methods.
    assert good["deletion_random"] == bad["deletion_random"]


def test_figures_are_those_of_the_single_checks(figures):
    good = figures()["good"]

    def score(image):
        return Scorer().probability(np.stack([image]).view(Pixels))

    assert good["deletion"] == deletion(score, IMAGE, GOOD)
    assert good["insertion"] == insertion(score, IMAGE, GOOD)
    assert abs(good["similarity"]) < 0.2


class Pixels(np.ndarray):
    """An array that can be asked for itself, as a tensor can."""

    def numpy(self):
        return np.asarray(self)


def test_where_the_lesion_lies_may_not_be_known(figures):
    good = figures(lesion=None)["good"]
    assert (good["area"], good["energy"], good["pointing"]) == (None, None, None)
    assert good["deletion"] is not None


def test_means_are_over_the_lesions_for_which_a_figure_is_known():
    names = ("area", "energy", "pointing", "deletion", "deletion_random", "insertion", "insertion_random", "similarity")
    first = dict.fromkeys(names, 0.5)
    second = dict.fromkeys(names, 0.1) | {"area": None, "energy": None, "pointing": None, "similarity": None}
    check = summarise_checks("Grad-CAM", [first, second])
    assert (check.method, check.num_lesions, check.num_marked) == ("Grad-CAM", 2, 1)
    assert (check.area, check.energy, check.pointing, check.similarity) == (0.5, 0.5, 0.5, 0.5)
    assert (check.deletion, check.insertion_random) == (pytest.approx(0.3), pytest.approx(0.3))


def test_figures_that_no_lesion_has_stay_unknown():
    names = ("area", "energy", "pointing", "similarity")
    scores = dict.fromkeys(("deletion", "deletion_random", "insertion", "insertion_random"), 0.2)
    check = summarise_checks("Grad-CAM", [dict.fromkeys(names) | scores])
    assert (check.area, check.energy, check.pointing, check.similarity, check.num_marked) == (None, None, None, None, 0)


def test_both_methods_are_checked():
    assert list(METHODS) == ["Grad-CAM", "Grad-CAM++"]
