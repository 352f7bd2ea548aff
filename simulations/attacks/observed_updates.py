"""What a server sees of one round at a site: the difference of parameters."""

import torch
from torch import Tensor

from client.training.clipped_gradients import trainable_parameters
from client.training.dp_sgd import LocalTraining, train_round
from client.training.noise import NoiseGenerator
from shared_model.data.lesions import Lesions
from shared_model.network.fusion import FusionNet
from shared_model.network.state import load_trainable, trainable_state


def observed_update(network: FusionNet, lesions: Lesions, training: LocalTraining, noise: NoiseGenerator) -> Tensor:
    """Train from the present parameters, put them back, and return old minus new ``(P,)``, float64."""
    start = trainable_state(network)
    before = _flat(network)
    train_round(network, lesions, training=training, noise=noise)
    after = _flat(network)
    load_trainable(network, start)
    return before - after


def _flat(network: FusionNet) -> Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in trainable_parameters(network)])
