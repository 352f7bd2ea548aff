"""Frozen features do not depend on orientation or batch; encoders that train normalise no batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from shared_model.config.choices import Backbone, FeatureEngine
from shared_model.network.backbone import SmallCNN, build_encoder, dihedral_orbit, frozen_features, group_norm
from shared_model.network.efficientnet import load_efficientnet_lite
from tests.small_networks import make_pattern

LITE0, LITE1 = Backbone.EFFICIENTNET_LITE0, Backbone.EFFICIENTNET_LITE1
FROZEN = [LITE0, LITE1]
KNOWN_FEATURES = {
    LITE0: [-1.32679, 1.14452, 0.57137, 4.63486, 0.44057],
    LITE1: [4.11645, 1.59173, 5.85464, -0.03918, 3.39131],
}
"""Recorded once, after the comparison with the unfolded network passed (``test_efficientnet``)."""
TRAINABLE = [backbone for backbone in Backbone if not backbone.is_frozen]


@pytest.mark.parametrize("backbone", FROZEN)
def test_features_of_a_fixedmake_pattern(backbone):
    features = frozen_features(make_pattern(64), backbone, FeatureEngine.TORCH)
    assert features.shape == (1, 320)
    assert features.dtype == torch.float32
    known = torch.tensor(KNOWN_FEATURES[backbone])
    torch.testing.assert_close(features[0, [0, 1, 2, 100, 319]], known, rtol=0, atol=1e-4)


def test_orbit_has_eight_different_images_and_starts_with_the_image():
    image = make_pattern(32)[0]
    orbit = dihedral_orbit(image)
    assert torch.equal(orbit[0], image)
    assert len(torch.unique(orbit.flatten(1), dim=0)) == 8


def test_features_do_not_change_when_the_image_is_turned_or_mirrored():
    orbit = dihedral_orbit(make_pattern(48)[0])
    features = frozen_features(orbit, LITE0, FeatureEngine.TORCH)
    torch.testing.assert_close(features, features[:1].expand(8, -1), rtol=0, atol=1e-5)
    assert (load_efficientnet_lite(LITE0)(orbit).std(dim=0) > 1e-3).any()


def test_features_do_not_depend_on_the_rest_of_the_batch():
    pixels = torch.cat([make_pattern(32), make_pattern(32) ** 2, torch.zeros(1, 1, 32, 32)])
    together = frozen_features(pixels, LITE0, FeatureEngine.TORCH)
    assert torch.equal(
        together, torch.cat([frozen_features(pixels[i : i + 1], LITE0, FeatureEngine.TORCH) for i in range(3)])
    )
    assert frozen_features(pixels[:0], LITE0, FeatureEngine.TORCH).shape == (0, 320)


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 1, 64, 32), (1, 1, 16, 16), (64, 64)])
def test_features_refuse_other_shapes(shape):
    with pytest.raises(ValueError, match=r"Expected pixels of shape .* == \(N, 1, S, S\) with S >= 32"):
        frozen_features(torch.zeros(shape), LITE0, FeatureEngine.TORCH)


@pytest.mark.parametrize("backbone", TRAINABLE)
def test_features_refuse_a_backbone_that_trains(backbone):
    with pytest.raises(ValueError, match=f"Expected backbone={backbone} to be frozen"):
        frozen_features(make_pattern(32), backbone, FeatureEngine.TORCH)


@pytest.mark.parametrize("backbone", TRAINABLE)
def test_encoder_reads_grey_pixels_and_normalises_no_batch(backbone):
    torch.manual_seed(0)
    network, width = build_encoder(backbone)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert not list(network.buffers())
    pixels = torch.cat([make_pattern(64), 1 - make_pattern(64)])
    features = network(pixels)
    assert features.shape == (2, width)
    torch.testing.assert_close(features[:1], network(pixels[:1]), rtol=1e-3, atol=1e-4)
    features.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("backbone", "width"), [("small_cnn", 128), ("resnet18", 512), ("densenet121", 1024)])
def test_width_of_the_features(backbone, width):
    assert build_encoder(Backbone(backbone))[1] == width


def test_size_of_the_published_architectures():
    # He et al. 2016 and Huang et al. 2017 without classifier (513,000 and 1,025,000) and two stem channels of 64 x 49.
    for backbone, published, classifier in (("resnet18", 11_689_512, 513_000), ("densenet121", 7_978_856, 1_025_000)):
        network, _ = build_encoder(Backbone(backbone))
        num_parameters = sum(parameter.numel() for parameter in network.parameters())
        assert num_parameters == published - classifier - 2 * 64 * 49


@pytest.mark.parametrize("backbone", FROZEN)
def test_a_frozen_backbone_has_no_trainable_encoder(backbone):
    with pytest.raises(ValueError, match=f"Expected backbone={backbone} to be trainable"):
        build_encoder(backbone)


@given(st.integers(1, 16))
def test_group_norm_has_sixteen_channels_a_group(num_groups):
    layer = group_norm(16 * num_groups)
    assert (layer.num_groups, layer.num_channels) == (num_groups, 16 * num_groups)
    assert group_norm(num_groups).num_groups == 1


def test_small_cnn_gradients_map_over_records():
    torch.manual_seed(0)
    network = SmallCNN()
    parameters = dict(network.named_parameters())
    pixels = torch.cat([make_pattern(32), 1 - make_pattern(32)])

    def loss(values, image):
        return torch.func.functional_call(network, values, (image[None],)).square().sum()

    mapped = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, pixels)
    for row in range(2):
        looped = torch.func.grad(loss)(parameters, pixels[row])
        for name, gradient in looped.items():
            torch.testing.assert_close(mapped[name][row], gradient, rtol=1e-3, atol=1e-5)
