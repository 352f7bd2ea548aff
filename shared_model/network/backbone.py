"""Image encoders: frozen pretrained features, and networks with group normalisation that train from scratch.

None uses batch normalisation. It would mix the records of a batch, so that clipping one record's gradient no longer
bounds its influence, and its running statistics would leave the site without noise.
"""

import torch
from torch import Tensor, nn

from shared_model.config.choices import Backbone, FeatureEngine
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.feature_engines import frozen_encoder
from shared_model.network.torchvision_cpu import load_torchvision_models

CHANNELS_PER_GROUP = 16
"""Channels in a group: the best fixed number in Wu & He 2018 (Group Normalization, Table 3)."""
SMALL_CNN_WIDTHS = (16, 32, 64, 128)
MIN_SIZE = 32
"""Smallest side of an image in pixels: encoders halve their maps up to five times."""


def frozen_features(pixels: Tensor, backbone: Backbone, engine: FeatureEngine) -> Tensor:
    """Return the pretrained features of square images, averaged over the eight rotations and flips of the square.

    A lesion has no upright orientation, so the average keeps what the eight orientations have in common. Each image
    goes through the network alone: its features then do not depend on other images, and a batch of eight fits in the
    processor's cache, which measured faster than any larger batch.

    Args:
        pixels: ``(N, 1, S, S)``, float32 in [0, 1], ``S`` >= 32.
        backbone: one with frozen weights.
        engine: what computes them; between engines features differ by rounding (``MAX_DIFFERENCE``).

    Returns:
        ``(N, 320)``, float32; ``(0, 320)`` without images.

    Raises:
        ValueError: another shape, or a backbone that trains.
        ConfigError: the installed package ships other weights, or the engine cannot be used.
    """
    size = pixels.shape[-1]
    if pixels.shape[1:] != (1, size, size) or size < MIN_SIZE:
        raise ValueError(f"Expected pixels of shape {tuple(pixels.shape)} == (N, 1, S, S) with S >= {MIN_SIZE}.")
    encoder = frozen_encoder(backbone, engine, size)
    features = pixels.new_zeros(len(pixels), FEATURE_WIDTH)
    with torch.inference_mode():
        for row, image in enumerate(pixels):
            features[row] = encoder(dihedral_orbit(image)).mean(dim=0)
    return features


def dihedral_orbit(image: Tensor) -> Tensor:
    """Return the eight rotations and flips ``(8, C, S, S)`` of an image ``(C, S, S)``, the image itself first."""
    rotations = [torch.rot90(image, turns, dims=(1, 2)) for turns in range(4)]
    return torch.stack(rotations + [rotated.flip(2) for rotated in rotations])


def group_norm(num_channels: int) -> nn.GroupNorm:
    """Return a GroupNorm of 16 channels a group, one group if there are fewer channels.

    Raises:
        ValueError: more than 16 channels, and not a multiple of 16.
    """
    return nn.GroupNorm(max(1, num_channels // CHANNELS_PER_GROUP), num_channels)


class SmallCNN(nn.Module):
    """Four blocks of convolution, GroupNorm, ReLU and max pooling, then the global average; 0.1 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for num_inputs, num_outputs in zip((1, *SMALL_CNN_WIDTHS), SMALL_CNN_WIDTHS, strict=False):
            convolution = nn.Conv2d(num_inputs, num_outputs, 3, padding=1, bias=False)
            layers += [convolution, group_norm(num_outputs), nn.ReLU(), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels ``(N, 1, H, W)`` in [0, 1] to features ``(N, 128)``."""
        maps: Tensor = self.layers(pixels)
        return maps.mean(dim=(2, 3))


def build_encoder(backbone: Backbone) -> tuple[nn.Module, int]:
    """Return an untrained encoder of pixels ``(N, 1, H, W)`` with ``H, W >= 32``, and the width of its features.

    The weights are drawn from torch's global generator.

    Raises:
        ValueError: the backbone is frozen; ``frozen_features`` computes its features.
    """
    match backbone:
        case Backbone.SMALL_CNN:
            return SmallCNN(), SMALL_CNN_WIDTHS[-1]
        case Backbone.RESNET18:
            return _resnet18()
        case Backbone.DENSENET121:
            return _densenet121()
        case _:
            raise ValueError(f"Expected backbone={backbone} to be trainable.")


def _resnet18() -> tuple[nn.Module, int]:
    network = load_torchvision_models().resnet18(weights=None, norm_layer=group_norm)
    width = int(network.fc.in_features)
    network.conv1 = _grey_stem(network.conv1)
    network.fc = nn.Identity()
    return _without_inplace(network), width


def _densenet121() -> tuple[nn.Module, int]:
    network = load_torchvision_models().densenet121(weights=None)
    width = int(network.classifier.in_features)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            network.set_submodule(name, group_norm(module.num_features))
    network.features.conv0 = _grey_stem(network.features.conv0)
    # torchvision applies activation and average in its forward method, in place; here they are layers.
    layers = nn.Sequential(network.features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return _without_inplace(layers), width


def _grey_stem(stem: nn.Conv2d) -> nn.Conv2d:
    """Return the stem for one input channel, initialised as He et al. 2015 (arXiv 1502.01852) do."""
    kernel, stride, padding = (stem.kernel_size[0], stem.stride[0], int(stem.padding[0]))
    grey = nn.Conv2d(1, stem.out_channels, kernel, stride=stride, padding=padding, bias=False)
    nn.init.kaiming_normal_(grey.weight, mode="fan_out", nonlinearity="relu")
    return grey


def _without_inplace(network: nn.Module) -> nn.Module:
    """Switch in-place activations off: function transforms such as ``vmap`` do not support them everywhere."""
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return network
