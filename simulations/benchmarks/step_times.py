"""How long private training steps take, by every gradient method, beside steps without privacy."""

import copy
import dataclasses
import statistics
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch.optim import SGD

from client.training.clipped_gradients import trainable_parameters
from client.training.dp_sgd import LocalTraining, train_round
from client.training.gradient_methods import GradientMethod, choose_gradient_method
from client.training.noise import NoiseGenerator
from client.training.patient_loss import summed_loss
from client.training.patients import LesionsByPatient
from shared_model.config.choices import Backbone, Fusion
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.site_sections import TrainingConfig
from shared_model.data.lesions import Lesions
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.fusion import build_network
from shared_model.vocabulary import clinical_width
from simulations.benchmarks.synthetic_cohort import cohort_config, cohort_plan, synthetic_cohort
from simulations.benchmarks.timing import interleaved

BATCHED = "batched"
"""``train_round`` with a null plan: one backward pass over as many lesions as are fast together."""
ONE_BY_ONE = "one by one"
"""A plain loop with one backward pass per patient, as ``GradientMethod.PATIENT`` needs, and nothing else."""
_HEAD_STEPS, _ENCODER_STEPS = 10, 1
"""Steps in one measurement: a head's step takes milliseconds, an encoder's seconds."""
_HEAD_TARGET, _ENCODER_TARGETS = 0.6, {Backbone.SMALL_CNN: 0.8, Backbone.RESNET18: 0.6}
"""Smallest ratios to batched steps that are wanted: of a head's chosen method, and of passes by patient."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Throughput:
    """Private steps by one gradient method, beside steps of the same network without privacy."""

    network: str
    """A fusion head on cached features, or an encoder with the side of its images in pixels."""
    gradient_method: GradientMethod
    is_chosen: bool
    """Whether training chooses this method by itself."""
    baseline: str
    """``BATCHED`` or ``ONE_BY_ONE``."""
    baseline_seconds: float
    """Median per step."""
    private_seconds: float
    """Median per step."""
    ratio: float
    """Private steps in the time of one without privacy: median over the repeats."""
    target: float | None
    """Smallest ratio wanted; null where there is none."""


def measure_heads(num_patients: int, num_repeats: int) -> Iterator[Throughput]:
    """Time private steps of every fusion head on cached features."""
    for fusion in Fusion:
        config = cohort_config(f"model.fusion={fusion}", f"training.local_steps={_HEAD_STEPS}")
        lesions = synthetic_cohort(
            num_patients, shape=(FEATURE_WIDTH,), clinical_width=clinical_width(config.data.features)
        )
        benchmark = StepBenchmark(name=f"{fusion} head", config=config, lesions=lesions)
        yield from benchmark.measure(tuple(GradientMethod), num_repeats=num_repeats)


def measure_encoder(num_patients: int, image_size: int, num_repeats: int) -> Iterator[Throughput]:
    """Time private steps of a small network on pixels, with images of ``image_size`` pixels a side."""
    benchmark = _encoder_benchmark(Backbone.SMALL_CNN, num_patients, image_size)
    yield from benchmark.measure((GradientMethod.RECORD, GradientMethod.PATIENT), num_repeats=num_repeats)


def measure_large_encoder(num_patients: int, image_size: int, num_repeats: int) -> Iterator[Throughput]:
    """Time private steps of a network of 11 million parameters, to each of which noise is added."""
    benchmark = _encoder_benchmark(Backbone.RESNET18, num_patients, image_size)
    benchmark = dataclasses.replace(benchmark, name=f"{benchmark.name}, {num_patients} patients")
    yield from benchmark.measure((GradientMethod.PATIENT,), num_repeats=num_repeats)


def _encoder_benchmark(backbone: Backbone, num_patients: int, image_size: int) -> "StepBenchmark":
    config = cohort_config(f"model.backbone={backbone}", f"training.local_steps={_ENCODER_STEPS}")
    lesions = synthetic_cohort(
        num_patients, shape=(1, image_size, image_size), clinical_width=clinical_width(config.data.features)
    )
    return StepBenchmark(name=f"{backbone} {image_size} px", config=config, lesions=lesions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepBenchmark:
    """One network trained with privacy by several gradient methods, and without."""

    name: str
    config: ExperimentConfig
    lesions: Lesions

    def measure(self, methods: tuple[GradientMethod, ...], *, num_repeats: int) -> Iterator[Throughput]:
        """Time steps of all ``methods`` and baselines in turns, and yield a row for each method and baseline."""
        config, lesions = self.config, self.lesions
        network = build_network(config.model, lesions.clinical.shape[1], seed=config.seed)
        training = LocalTraining(config=config.training, plan=cohort_plan(config, lesions.num_patients))
        actions = {
            BATCHED: partial(_train, network, lesions, dataclasses.replace(training, plan=None)),
            ONE_BY_ONE: partial(_train_one_by_one, network, lesions, config.training),
        }
        actions |= {
            method: partial(_train, network, lesions, dataclasses.replace(training, gradient_method=method))
            for method in methods
        }
        seconds = interleaved(actions, num_repeats=num_repeats)
        chosen = choose_gradient_method(network, LesionsByPatient.from_lesions(lesions), config.training)
        for method in methods:
            yield self._row(method, BATCHED, seconds, is_chosen=method is chosen)
            if method is GradientMethod.PATIENT:
                yield self._row(method, ONE_BY_ONE, seconds, is_chosen=method is chosen)

    def _row(
        self, method: GradientMethod, baseline: str, seconds: dict[str, list[float]], *, is_chosen: bool
    ) -> Throughput:
        num_steps = self.config.training.local_steps
        target = None
        if baseline == BATCHED and self.lesions.images.ndim == 2:
            target = _HEAD_TARGET if is_chosen else None
        elif baseline == BATCHED:
            target = _ENCODER_TARGETS.get(self.config.model.backbone) if method is GradientMethod.PATIENT else None
        return Throughput(
            network=self.name,
            gradient_method=method,
            is_chosen=is_chosen,
            baseline=baseline,
            baseline_seconds=statistics.median(seconds[baseline]) / num_steps,
            private_seconds=statistics.median(seconds[method]) / num_steps,
            ratio=statistics.median(
                plain / private for plain, private in zip(seconds[baseline], seconds[method], strict=True)
            ),
            target=target,
        )


def _train(network: nn.Module, lesions: Lesions, training: LocalTraining) -> None:
    train_round(copy.deepcopy(network), lesions, training=training, noise=NoiseGenerator.from_system_entropy())


def _train_one_by_one(network: nn.Module, lesions: Lesions, config: TrainingConfig) -> None:
    """Take ordinary steps, with the gradient gathered by one backward pass per patient."""
    model = copy.deepcopy(network)
    optimizer = SGD(trainable_parameters(model), lr=config.learning_rate, momentum=config.momentum)
    by_patient = LesionsByPatient.from_lesions(lesions)
    patients = torch.arange(len(by_patient.sizes))
    for _ in range(config.local_steps):
        optimizer.zero_grad()
        for batch in by_patient.batches(patients, num_rows=1):
            torch.autograd.backward(summed_loss(model, batch, config) / len(patients))
        optimizer.step()
