"""The fusion network, its image encoders, its parameters and its scores."""

from shared_model.network.fusion import FusionNet, build_network
from shared_model.network.state import constants_state, trainable_state

__all__ = ["FusionNet", "build_network", "constants_state", "trainable_state"]
