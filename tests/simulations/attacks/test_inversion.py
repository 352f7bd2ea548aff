"""Reconstructions from an update: possible without privacy, impossible with it."""

import pytest
import torch
from matplotlib.image import imread

from simulations.attacks.inversion import IMAGE_SIZE, Inversion, invert_images, recover_features, write_pictures


@pytest.mark.parametrize("seed", range(5))
def test_a_linear_head_gives_its_input_away_without_privacy_and_not_with(seed):
    found = recover_features(target_epsilon=8.0, seed=seed)
    assert found.without_privacy > 1 - 1e-6
    # 320 features: random directions have cosines of standard deviation 0.06.
    assert abs(found.with_privacy) < 0.25


@pytest.mark.slow
def test_an_image_comes_back_without_privacy_and_not_with(tmp_path):
    steps = []
    found = list(
        invert_images(
            num_images=1, target_epsilon=8.0, num_steps=600, seed=1, progress=lambda *step: steps.append(step)
        )
    )
    assert [inversion.original.shape for inversion in found] == [(IMAGE_SIZE, IMAGE_SIZE)]
    assert found[0].correlation_without > 0.7
    assert abs(found[0].correlation_with) < 0.3
    assert steps[-1] == (1200, 1200)
    assert len(steps) == 1200
    write_pictures(tmp_path / "pictures.png", found, target_epsilon=8.0)
    assert (tmp_path / "pictures.png").read_bytes().startswith(b"\x89PNG")


def test_correlations_by_hand():
    image = torch.arange(16.0).reshape(4, 4) / 15
    inversion = Inversion(original=image, without_privacy=0.2 + 0.5 * image, with_privacy=1 - image)
    assert inversion.correlation_without == pytest.approx(1)
    assert inversion.correlation_with == pytest.approx(-1)


def test_an_attack_depends_on_its_seed_alone_and_stays_an_image():
    first, again, other = (
        next(iter(invert_images(num_images=1, target_epsilon=8.0, num_steps=2, seed=seed))) for seed in (3, 3, 4)
    )
    for name in ("original", "without_privacy", "with_privacy"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
        assert 0 <= getattr(first, name).min() <= getattr(first, name).max() <= 1
    # Both searches start from the same image and see different updates.
    assert not torch.equal(first.without_privacy, first.with_privacy)


@pytest.mark.parametrize("num_images", [1, 3])
def test_pictures_have_a_row_for_each_image(tmp_path, num_images):
    image = torch.rand((IMAGE_SIZE, IMAGE_SIZE), generator=torch.Generator().manual_seed(0))
    inversion = Inversion(original=image, without_privacy=image, with_privacy=1 - image)
    write_pictures(tmp_path / "pictures.png", [inversion] * num_images, target_epsilon=8.0)
    height, width, _ = imread(tmp_path / "pictures.png").shape
    assert height / width == pytest.approx((1.75 * num_images + 0.3) / 4.5, rel=0.01)


def test_pictures_are_png_files(tmp_path):
    image = torch.eye(IMAGE_SIZE)
    inversion = Inversion(original=image, without_privacy=image, with_privacy=image)
    with pytest.raises(ValueError, match=r"\.png"):
        write_pictures(tmp_path / "pictures.jpg", [inversion], target_epsilon=8.0)
