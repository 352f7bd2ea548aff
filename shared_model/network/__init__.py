"""The fusion network, its image encoders, its parameters and its scores."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared_model.network.fusion import FusionNet, build_network
    from shared_model.network.state import constants_state, trainable_state

__all__ = ["FusionNet", "build_network", "constants_state", "trainable_state"]

_MODULES = {"FusionNet": "fusion", "build_network": "fusion", "constants_state": "state", "trainable_state": "state"}


def __getattr__(name: str) -> object:
    """Import torch only when the network is asked for (PEP 562)."""
    if name in _MODULES:
        return getattr(import_module(f"shared_model.network.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
