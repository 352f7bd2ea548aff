"""The state of a network as named arrays: what the server sends, and what sites train.

Trainable parameters change every round; public constants stay the same in a run. Everything else follows from the
configuration.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from shared_model.network.fusion import FusionNet
from shared_model.network.named_arrays import Float32Array, Parameters
from shared_model.network.standardisation import FeatureConstants

_PREFIX = "image_standardisation."


def trainable_state(network: nn.Module) -> dict[str, Float32Array]:
    """Return a copy of every trainable parameter by name: everything that training changes."""
    return {name: _to_array(parameter) for name, parameter in _trainable(network).items()}


def load_trainable(network: nn.Module, arrays: Parameters) -> None:
    """Overwrite every trainable parameter.

    Raises:
        ValueError: a name is missing or unknown, or a shape differs; the network is then unchanged.
    """
    parameters = _trainable(network)
    _check_arrays(arrays, {name: tuple(parameter.shape) for name, parameter in parameters.items()})
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(_to_tensor(arrays[name]))


def constants_state(network: FusionNet) -> dict[str, Float32Array]:
    """Return a copy of the public constants by name; empty for a network without image standardisation.

    Raises:
        ConfigError: principal components are configured and the image constants are not set.
    """
    if network.image_standardisation is None:
        return {}
    mean, projection = network.image_standardisation.constants()
    return {f"{_PREFIX}mean": _to_array(mean), f"{_PREFIX}projection": _to_array(projection)}


def load_constants(network: FusionNet, arrays: Parameters) -> None:
    """Set the public constants from what ``constants_state`` returned.

    Raises:
        ValueError: a name is missing or unknown, or a shape differs; the network is then unchanged.
    """
    standardisation = network.image_standardisation
    shapes = {} if standardisation is None else standardisation.shapes
    _check_arrays(arrays, {_PREFIX + name: shape for name, shape in shapes.items()})
    if standardisation is not None:
        device = next(network.parameters()).device
        standardisation.mean = _to_tensor(arrays[f"{_PREFIX}mean"]).to(device)
        standardisation.projection = _to_tensor(arrays[f"{_PREFIX}projection"]).to(device)


def load_feature_constants(network: FusionNet, constants: FeatureConstants) -> None:
    """Set the public constants of the image branch.

    Raises:
        ValueError: the network has no image standardisation, or a shape differs; the network is then unchanged.
    """
    load_constants(network, {_PREFIX + name: array for name, array in vars(constants).items()})


def _trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


# Always C order: the order in memory decides the last bits of a matrix product, and scores must be reproducible.
def _to_array(tensor: Tensor) -> Float32Array:
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32, order="C")


def _to_tensor(array: Float32Array) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def _check_arrays(arrays: Parameters, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if set(arrays) != set(shapes):
        raise ValueError(f"Expected arrays {sorted(shapes)}, got {sorted(arrays)}.")
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(f"Expected {name} of shape {shape}, got {arrays[name].shape}.")
