"""Checks of maps on cases whose outcome is known beforehand."""

import numpy as np
import pytest
import torch
from torch import nn

from simulations.explanations.faithfulness import (
    deletion,
    energy_inside,
    insertion,
    points_inside,
    randomised,
    similarity,
)

SIZE = 32
LESION = np.zeros((SIZE, SIZE), dtype=bool)
LESION[4:12, 4:12] = True
IMAGE = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32) * LESION
HEAT = LESION.astype(np.float32)


def contrast(image):
    """A score that hangs on the fine structure inside the lesion alone."""
    return float(min(1.0, 3 * image[LESION].std()))


def test_energy_and_pointing_by_hand():
    heat = np.zeros((SIZE, SIZE), dtype=np.float32)
    heat[5, 5], heat[20, 20] = 3, 1
    assert energy_inside(heat, LESION) == 0.75
    assert points_inside(heat, LESION) is True
    assert points_inside(heat, ~LESION) is False
    assert energy_inside(np.ones_like(heat), LESION) == pytest.approx(LESION.mean())


def test_an_empty_map_points_nowhere():
    empty = np.zeros((SIZE, SIZE), dtype=np.float32)
    assert energy_inside(empty, LESION) is None
    assert points_inside(empty, LESION) is None


def test_a_map_of_what_counts_beats_chance_and_its_opposite():
    random = np.random.default_rng(1).random((SIZE, SIZE), dtype=np.float32)
    assert deletion(contrast, IMAGE, HEAT) < deletion(contrast, IMAGE, random) < deletion(contrast, IMAGE, 1 - HEAT)
    assert insertion(contrast, IMAGE, HEAT) > insertion(contrast, IMAGE, random) > insertion(contrast, IMAGE, 1 - HEAT)


def test_a_constant_score_is_its_own_mean():
    for figure in (deletion, insertion):
        assert figure(lambda _image: 0.3, IMAGE, HEAT) == pytest.approx(0.3)


def test_shuffling_keeps_every_value_and_moves_most():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 4))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    shuffled = randomised(network, seed=1).state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(tensor.flatten().sort().values, shuffled[name].flatten().sort().values)
    assert not torch.equal(before["0.weight"], shuffled["0.weight"])


def test_similarity_is_the_correlation_of_ranks():
    first = np.arange(SIZE**2, dtype=np.float32).reshape(SIZE, SIZE)
    assert similarity(first, first**3) == pytest.approx(1)
    assert similarity(first, -first) == pytest.approx(-1)
    assert similarity(first, np.zeros_like(first)) is None
