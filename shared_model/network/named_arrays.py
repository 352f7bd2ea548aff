"""Arithmetic on named arrays: parameters and updates of a network, as server and sites exchange them.

>>> add({"weight": np.float32([1, 2])}, {"weight": np.float32([10, 20])})["weight"].tolist()
[11.0, 22.0]
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

Float32Array = NDArray[np.float32]
Parameters = Mapping[str, Float32Array]
"""Name to float32 array. Two sets combine only when names and shapes agree."""


def require_same_structure(left: Parameters, right: Parameters) -> None:
    """Check that two sets have the same names and shapes.

    Raises:
        ValueError: naming what differs.
    """
    if list(left) != list(right):
        raise ValueError(f"Expected equal names in equal order, got {list(left)} and {list(right)}.")
    for name in left:
        if left[name].shape != right[name].shape:
            raise ValueError(f"Expected equal shapes of {name}, got {left[name].shape} and {right[name].shape}.")


def add(left: Parameters, right: Parameters) -> dict[str, Float32Array]:
    """Return ``left + right``."""
    require_same_structure(left, right)
    return {name: left[name] + right[name] for name in left}


def difference(left: Parameters, right: Parameters) -> dict[str, Float32Array]:
    """Return ``left - right``."""
    require_same_structure(left, right)
    return {name: left[name] - right[name] for name in left}


def scale(parameters: Parameters, factor: float) -> dict[str, Float32Array]:
    """Return ``factor * parameters``."""
    return {name: (array * np.float32(factor)).astype(np.float32) for name, array in parameters.items()}


def zeros_like(parameters: Parameters) -> dict[str, Float32Array]:
    """Return a set of zeros of the same structure."""
    return {name: np.zeros_like(array) for name, array in parameters.items()}


def is_finite(parameters: Parameters) -> bool:
    """Return whether no entry is NaN or infinite."""
    return all(bool(np.isfinite(array).all()) for array in parameters.values())


def l2_norm(parameters: Parameters) -> float:
    """Return the Euclidean norm over all entries together."""
    return float(np.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in parameters.values())))


def clip(parameters: Parameters, clipping_norm: float) -> dict[str, Float32Array]:
    """Return the arrays, scaled down if their ``l2_norm`` is above ``clipping_norm``, to that norm at most.

    The factor is made smaller by more than float32 rounding can make the products larger.
    """
    norm = l2_norm(parameters)
    return scale(parameters, 1.0 if norm <= clipping_norm else clipping_norm / norm * (1 - 2**-22))


def to_safetensors(arrays: Mapping[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> bytes:
    """Return the content of a safetensors file.

    Every array is brought into C order first. The library writes an array's memory as it is, together with its shape;
    of a transposed array it would write entries in the wrong order.
    """
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata)
