"""The data and the training of an audit in one run: many canaries, each with a direction of her own.

A canary's lesions are all alike: one feature, no clinical data. So her gradient lies along that feature but for the
small bias, and what one canary adds to a sum hardly shows in the direction of another.
"""

import torch

from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.network.efficientnet import FEATURE_WIDTH
from simulations.attacks.audited_training import audited_training
from simulations.seeding import torch_generator

NUM_OTHERS = 100
"""Patients beside the canaries, all of whom take part; the auditor knows them."""
MAX_CANARIES = FEATURE_WIDTH
NUM_ROUNDS = 20
_LESIONS_OF_CANARY = 8


def one_run_config(*, target_epsilon: float, delta: float) -> ExperimentConfig:
    """Return the training under audit: an early-fusion head, twenty rounds of one whole-cohort step."""
    return audited_training(
        f"privacy.target_epsilon={target_epsilon}",
        f"privacy.delta={delta}",
        f"training.num_rounds={NUM_ROUNDS}",
        "training.sampling_rate=1",
    )


def canaries(count: int, width: int) -> Lesions:
    """Return the lesions of ``count`` canaries, patients 0 to ``count`` - 1, eight malignant ones each.

    Args:
        count: at most ``MAX_CANARIES``.
        width: of the clinical vector.
    """
    patients = torch.arange(count).repeat_interleave(_LESIONS_OF_CANARY)
    return Lesions(
        images=torch.eye(FEATURE_WIDTH)[patients],
        has_image=torch.ones(len(patients), dtype=torch.bool),
        clinical=torch.zeros((len(patients), width)),
        labels=torch.ones(len(patients)),
        patients=patients,
    )


def others(width: int, seed: int) -> Lesions:
    """Return one random lesion of each of ``NUM_OTHERS`` patients, whose numbers begin at ``MAX_CANARIES``."""
    generator = torch_generator(seed, "one-run audit")
    return Lesions(
        images=torch.randn((NUM_OTHERS, FEATURE_WIDTH), generator=generator),
        has_image=torch.ones(NUM_OTHERS, dtype=torch.bool),
        clinical=2 * torch.rand((NUM_OTHERS, width), generator=generator) - 1,
        labels=(torch.rand(NUM_OTHERS, generator=generator) < 0.5).float(),
        patients=MAX_CANARIES + torch.arange(NUM_OTHERS),
    )
