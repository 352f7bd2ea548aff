"""What computes the frozen encoder: torch, or an optional engine that has shown that it computes the same here."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from shared_model.config.choices import Backbone, FeatureEngine
from shared_model.config.site_sections import ModelConfig
from shared_model.errors import ConfigError
from shared_model.network.efficientnet import EfficientNetLite, load_efficientnet_lite

NUM_VIEWS = 8
"""Views of one image that an encoder is given at once: the rotations and flips of a square."""
MAX_DIFFERENCE = 1e-5
"""Of features between engines, as a share of their length. Both add the same float32 products, in another order."""
Encoder = Callable[[Tensor], Tensor]
"""Maps views ``(8, 1, S, S)`` in [0, 1] to features ``(8, 320)``, float32."""


def prepare_engine(model: ModelConfig, size: int) -> None:
    """Load the optional engine of ``model``, if it has one, so that what can fail fails before an image is read.

    Args:
        model: of the configuration.
        size: side of the images in pixels.

    Raises:
        ConfigError: as ``frozen_encoder``.
    """
    if model.reads_frozen_features and model.feature_engine is not FeatureEngine.TORCH:
        frozen_encoder(model.backbone, model.feature_engine, size)


def frozen_encoder(backbone: Backbone, engine: FeatureEngine, size: int) -> Encoder:
    """Return the encoder for images of ``size`` x ``size`` pixels.

    Raises:
        ValueError: the backbone is not frozen.
        ConfigError: the package of weights or the engine is missing, or the engine computes something else.
    """
    match engine:
        case FeatureEngine.TORCH:
            return load_efficientnet_lite(backbone)
        case FeatureEngine.OPENVINO:
            return _openvino_encoder(backbone, size)


# A coordinator that asks for size after size must not fill the memory.
@functools.lru_cache(maxsize=2)
def _openvino_encoder(backbone: Backbone, size: int) -> Encoder:
    from shared_model.network.openvino_encoder import compiled, require_openvino  # noqa: PLC0415, an extra

    require_openvino()
    from shared_model.network.onnx_graph import encoder_model  # noqa: PLC0415, an extra

    network = load_efficientnet_lite(backbone)
    compute = compiled(encoder_model(network, num_images=NUM_VIEWS, size=size))

    def encode(views: Tensor) -> Tensor:
        return torch.from_numpy(compute(views.numpy()))

    _require_agreement(encode, network, size)
    return encode


def _require_agreement(encoder: Encoder, network: EfficientNetLite, size: int) -> None:
    """Try an engine on invented images: what a processor or a version computes otherwise shows on any.

    Raises:
        ConfigError: its features differ from torch's by more than ``MAX_DIFFERENCE``.
    """
    views = torch.rand(NUM_VIEWS, 1, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = network(views), encoder(views)
    difference = float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())
    # Written so that NaN fails.
    if not difference <= MAX_DIFFERENCE:
        raise ConfigError(
            f"Expected features of model.feature_engine=openvino within {MAX_DIFFERENCE:g} of torch's on this machine, "
            f"got {difference:.1g}; take model.feature_engine=torch."
        )
