"""What ``pip install 'federated-mammography[onnx]'`` brings, asked for before it is used."""

from importlib.util import find_spec

from shared_model.config.choices import Modality
from shared_model.config.site_sections import ModelConfig
from shared_model.errors import ConfigError


def require_onnx(model: ModelConfig) -> None:
    """Check that a network of ``model`` can become an ONNX file here.

    Raises:
        ConfigError: the extra is not installed, or the network has an image encoder of its own.
    """
    if find_spec("onnx") is None:
        raise ConfigError("Expected onnx for --onnx; install it with pip install 'federated-mammography[onnx]'.")
    if model.modality is not Modality.CLINICAL and not model.backbone.is_frozen:
        raise ConfigError(
            f"Expected a frozen backbone for --onnx, got model.backbone={model.backbone}; release it without --onnx."
        )
