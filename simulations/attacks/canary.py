"""The data and the training that a membership attack is made on: the worst case for one patient, the canary.

The canary has many lesions that are all alike, and alone has an entry in one clinical column, so that her gradient
resembles no other patient's.
"""

import torch

from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.network.efficientnet import FEATURE_WIDTH
from simulations.attacks.audited_training import audited_training
from simulations.seeding import torch_generator

NUM_OTHERS = 10
"""Patients beside the canary."""
_MAX_LESIONS_OF_OTHERS, _LESIONS_OF_CANARY = 3, 24
_CANARY_ENTRY = 20.0
_NUM_ROUNDS = 2


def audited_config(*, sampling_rate: float, target_epsilon: float) -> ExperimentConfig:
    """Return the training under attack: an early-fusion head, two rounds of one step, delta 1e-4."""
    return audited_training(
        "data.features=descriptors",
        f"privacy.target_epsilon={target_epsilon}",
        "privacy.delta=1e-4",
        f"training.num_rounds={_NUM_ROUNDS}",
        f"training.sampling_rate={sampling_rate}",
    )


def lesions_with_canary(width: int, seed: int) -> Lesions:
    """Return random lesions of the canary, patient 0, whose many lesions are all alike, and of ``NUM_OTHERS`` others.

    Args:
        width: of the clinical vector.
        seed: of the random numbers.
    """
    generator = torch_generator(seed, "audit")
    num_lesions = torch.randint(1, _MAX_LESIONS_OF_OTHERS + 1, (1 + NUM_OTHERS,), generator=generator)
    num_lesions[0] = _LESIONS_OF_CANARY
    rows = torch.repeat_interleave(torch.arange(len(num_lesions)), num_lesions)
    # One random lesion per patient suffices: several that are alike are still several rows.
    images = torch.randn((len(num_lesions), FEATURE_WIDTH), generator=generator)
    clinical = 2 * torch.rand((len(num_lesions), width), generator=generator) - 1
    # The canary alone has something in the last column, and much of it: a gradient that no other resembles.
    clinical[:, -1] = 0
    clinical[0, -1] = _CANARY_ENTRY
    labels = (torch.rand(len(num_lesions), generator=generator) < 0.5).float()
    labels[0] = 1.0
    return Lesions(
        images=images[rows],
        has_image=torch.ones(len(rows), dtype=torch.bool),
        clinical=clinical[rows],
        labels=labels[rows],
        patients=rows,
    )
