import pytest
import torch

from simulations.attacks.mass_crops import draw_mass_crops


@pytest.mark.parametrize(("count", "size"), [(1, 32), (3, 48)])
def test_crops_are_stretched_to_the_whole_range(count, size):
    crops = list(draw_mass_crops(count, size=size, seed=2))
    assert len(crops) == count
    for crop in crops:
        assert (crop.shape, crop.dtype) == ((size, size), torch.float32)
        assert (float(crop.min()), float(crop.max())) == (0, 1)
    assert len({crop.numpy().tobytes() for crop in crops}) == count


def test_the_mass_lies_in_the_middle():
    """A mass is brighter than what surrounds it."""
    for crop in draw_mass_crops(6, size=32, seed=0):
        centre, rim = crop[11:21, 11:21].mean(), torch.cat((crop[:3].flatten(), crop[-3:].flatten())).mean()
        assert centre > rim + 0.1


def test_the_seed_fixes_the_crops():
    first, again, other = (next(draw_mass_crops(1, size=32, seed=seed)) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
