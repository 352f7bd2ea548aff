"""A site's round of one step on cached features, with privacy and without, by fusion head and number of patients."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial

import torch

from client.training.dp_sgd import LocalTraining, train_round
from client.training.noise import NoiseGenerator
from shared_model.config.choices import Fusion
from shared_model.data.lesions import Lesions
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.fusion import FusionNet, build_network
from shared_model.vocabulary import clinical_width
from simulations.benchmarks.child_process import in_child
from simulations.benchmarks.cost.parts import CostPart
from simulations.benchmarks.cost.step import Progress, Size, Step, measured_in_turns
from simulations.benchmarks.synthetic_cohort import cohort_config, cohort_plan, synthetic_cohort

_DELTA = 1e-7
"""Small enough for all sizes; neither steps nor noise take longer for it."""


def measure_training(num_patients: Sequence[int], *, num_repeats: int, progress: Progress) -> Iterator[Step]:
    """Yield the costs of a round without and with privacy, for each head and number of patients.

    Args:
        num_patients: each from 10, what a site declares at least, to a million.
        num_repeats: rounds of each kind, whose median counts, at least 1.
        progress: called with what is measured next.
    """
    for fusion in Fusion:
        for count in num_patients:
            progress(f"training of the {fusion} head with {count} patients")
            yield from in_child(_play, fusion, count, num_repeats)


def _play(fusion: Fusion, num_patients: int, num_repeats: int) -> list[Step]:
    torch.set_num_threads(1)
    config = cohort_config(f"model.fusion={fusion}", "training.local_steps=1", f"privacy.delta={_DELTA}")
    width = clinical_width(config.data.features)
    lesions = synthetic_cohort(num_patients, shape=(FEATURE_WIDTH,), clinical_width=width)
    network = build_network(config.model, width, seed=config.seed)
    private = LocalTraining(config=config.training, plan=cohort_plan(config, num_patients))
    actions = {
        f"{fusion} head, plain": partial(_train, network, lesions, dataclasses.replace(private, plan=None)),
        f"{fusion} head, private": partial(_train, network, lesions, private),
    }
    size = Size(part=CostPart.TRAINING, count=num_patients, unit="patients")
    return measured_in_turns(size, actions, num_repeats=num_repeats)


def _train(network: FusionNet, lesions: Lesions, training: LocalTraining) -> None:
    train_round(copy.deepcopy(network), lesions, training=training, noise=NoiseGenerator.from_system_entropy())
