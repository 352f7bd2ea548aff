import pytest

from simulations.attacks.inversion import IMAGE_SIZE, invert_images, recover_features, write_pictures


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
