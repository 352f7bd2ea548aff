"""The canary: many equal lesions, and an entry that nobody else has."""

import pytest
import torch

from simulations.attacks.canary import NUM_OTHERS, audited_config, lesions_with_canary

WIDTH = 7


@pytest.mark.parametrize("seed", range(5))
def test_the_canary_has_equal_lesions_and_the_last_column_for_herself(seed):
    lesions = lesions_with_canary(WIDTH, seed)
    is_canary = lesions.patients == 0
    assert lesions.num_patients == 1 + NUM_OTHERS
    assert int(is_canary.sum()) == 24
    assert len(torch.unique(lesions.images[is_canary], dim=0)) == 1
    assert set(lesions.labels[is_canary].tolist()) == {1.0}
    assert (lesions.clinical[is_canary, -1] == 20).all()
    assert (lesions.clinical[~is_canary, -1] == 0).all()
    assert lesions.clinical.shape == (len(lesions), WIDTH)


@pytest.mark.parametrize("seed", range(5))
def test_others_have_one_to_three_equal_lesions(seed):
    lesions = lesions_with_canary(WIDTH, seed)
    for patient in range(1, 1 + NUM_OTHERS):
        is_hers = lesions.patients == patient
        assert 1 <= int(is_hers.sum()) <= 3
        assert len(torch.unique(lesions.images[is_hers], dim=0)) == 1


def test_the_seed_fixes_the_data():
    first, again, other = (lesions_with_canary(WIDTH, seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.clinical, again.clinical)
    assert first.images.shape != other.images.shape or not torch.equal(first.images, other.images)


@pytest.mark.parametrize("sampling_rate", [1.0, 0.5])
def test_the_training_under_attack(sampling_rate):
    config = audited_config(sampling_rate=sampling_rate, target_epsilon=3.0)
    assert (config.privacy.target_epsilon, config.privacy.delta) == (3.0, 1e-4)
    assert (config.training.num_rounds, config.training.local_steps) == (2, 1)
    assert config.training.sampling_rate == sampling_rate
    # Whatever would carry something from one step to the next is off.
    assert (config.training.momentum, config.training.weight_decay) == (0, 0)
