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


def updates_by_patient(network: FusionNet, lesions: Lesions, training: LocalTraining) -> Tensor:
    """Return what each patient alone would move, ``(patients, P)``, float64, in the order of their numbers.

    Args:
        network: whose present parameters training starts from.
        lesions: of all patients.
        training: without privacy, so that nothing but the draw of patients is random.
    """
    return torch.stack(
        [
            observed_update(network, lesions.select(lesions.patients == patient), training, NoiseGenerator.from_seed(0))
            for patient in torch.unique(lesions.patients)
        ]
    )


def _flat(network: FusionNet) -> Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in trainable_parameters(network)])
