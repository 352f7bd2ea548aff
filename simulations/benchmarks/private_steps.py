"""What privacy costs in time, measured against training without it.

Everything that is compared is measured in one run, in turns, so that a machine that slows down slows all of it; the
figures are medians. The cohort is synthetic, of the size of ``preset=cbis_mass``: times do not depend on what is seen.
"""

import copy
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.optim import SGD

from client.privacy.declared_size import declared_size
from client.privacy.ledger import Ledger, Reservation
from client.privacy.ledger_entries import Purpose, Reserved
from client.privacy.ledger_history import Limits
from client.privacy.pseudonyms import Cohort
from client.training.clipped_gradients import trainable_parameters
from client.training.dp_sgd import LocalTraining, train_round
from client.training.gradient_methods import GradientMethod, choose_gradient_method
from client.training.noise import NoiseGenerator
from client.training.patient_loss import summed_loss
from client.training.patients import LesionsByPatient
from shared_model.config.choices import Fusion, NoiseSource
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.site_sections import TrainingConfig
from shared_model.data.lesions import Lesions
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.fusion import build_network
from shared_model.privacy import accounting, cross_check, noise_calibration
from shared_model.privacy.mechanism import Mechanism
from shared_model.privacy.plan import PrivacyPlan
from shared_model.vocabulary import clinical_width
from simulations.seeding import torch_generator

BATCHED = "batched"
"""``train_round`` with a null plan: one backward pass over as many lesions as are fast together."""
ONE_BY_ONE = "one by one"
"""A plain loop with one backward pass per patient, as ``GradientMethod.PATIENT`` needs, and nothing else."""
_HEAD_STEPS, _ENCODER_STEPS = 10, 1
"""Steps in one measurement: a head's step takes milliseconds, an encoder's seconds."""
_HEAD_TARGET, _LOOP_TARGET = 0.4, 0.9
_CALIBRATION_TARGET_SECONDS = 5.0
_LEDGER_TARGET_SECONDS = 0.02
_MANY_RELEASES = 400
_REPLY_BYTES = 2**12
"""About the update of a head on frozen features."""
_NO_LIMIT = Limits(max_epsilon=None, max_delta=1e-5)
_MOST_LESIONS, _MEAN_FURTHER_LESIONS = 24, 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Throughput:
    """Private steps by one gradient method, beside steps of the same network without privacy."""

    network: str
    """A fusion head on cached features, or ``small_cnn`` with the side of its images in pixels."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """How long a site needs to make a plan, with nothing cached, and to check it by a second accountant."""

    sampling_rate: float
    num_steps: int
    noise_multiplier: float
    calibrate_seconds: float
    cross_check_seconds: float
    target_seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class LedgerCost:
    """What a round adds by its ledger, in the system's folder for temporary files: reserving and committing."""

    num_earlier_releases: int
    round_seconds: float
    open_seconds: float
    """Once per process: verifying the whole chain."""
    target_seconds: float
    """Of a round."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyBenchmark:
    """What ``fedmammo benchmark privacy`` measures."""

    num_patients: int
    num_lesions: int
    image_size: int
    num_repeats: int
    num_threads: int
    torch_version: str
    throughput: tuple[Throughput, ...]
    calibration: tuple[Calibration, ...]
    ledger: tuple[LedgerCost, ...]


def measure_privacy(*, num_patients: int, image_size: int, num_repeats: int) -> PrivacyBenchmark:
    """Measure everything that ``PrivacyBenchmark`` holds.

    Args:
        num_patients: at least 10, the smallest cohort that a site declares.
        image_size: side in pixels of the images of the network that trains from scratch, at least 32.
        num_repeats: at least 1.
    """
    return PrivacyBenchmark(
        num_patients=num_patients,
        num_lesions=len(synthetic_lesions(num_patients, shape=(1,), clinical_width=1)),
        image_size=image_size,
        num_repeats=num_repeats,
        num_threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        throughput=(
            *_measure_heads(num_patients, num_repeats),
            *_measure_encoder(num_patients, image_size, num_repeats),
        ),
        calibration=tuple(_measure_calibration(num_patients, num_repeats)),
        ledger=tuple(_measure_ledger(num_patients, num_repeats)),
    )


def _measure_heads(num_patients: int, num_repeats: int) -> Iterator[Throughput]:
    for fusion in Fusion:
        config = _config(f"model.fusion={fusion}", f"training.local_steps={_HEAD_STEPS}")
        lesions = synthetic_lesions(
            num_patients, shape=(FEATURE_WIDTH,), clinical_width=clinical_width(config.data.features)
        )
        methods = tuple(GradientMethod)
        if fusion is Fusion.LATE:
            # One of its parameters is not a linear layer's.
            methods = (GradientMethod.RECORD, GradientMethod.PATIENT)
        contest = Contest(name=f"{fusion} head", config=config, lesions=lesions)
        yield from contest.measure(methods, num_repeats=num_repeats)


def _measure_encoder(num_patients: int, image_size: int, num_repeats: int) -> Iterator[Throughput]:
    config = _config("model.backbone=small_cnn", f"training.local_steps={_ENCODER_STEPS}")
    lesions = synthetic_lesions(
        num_patients, shape=(1, image_size, image_size), clinical_width=clinical_width(config.data.features)
    )
    contest = Contest(name=f"small_cnn {image_size} px", config=config, lesions=lesions)
    yield from contest.measure((GradientMethod.RECORD, GradientMethod.PATIENT), num_repeats=num_repeats)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contest:
    """One network trained with privacy by several gradient methods, and without."""

    name: str
    config: ExperimentConfig
    lesions: Lesions

    def measure(self, methods: tuple[GradientMethod, ...], *, num_repeats: int) -> Iterator[Throughput]:
        """Time steps of all ``methods`` and baselines in turns, and yield a row for each method and baseline."""
        config, lesions = self.config, self.lesions
        network = build_network(config.model, lesions.clinical.shape[1], seed=config.seed)
        training = LocalTraining(config=config.training, plan=_plan(config, lesions.num_patients))
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
            target = _LOOP_TARGET if method is GradientMethod.PATIENT else None
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


def _measure_calibration(num_patients: int, num_repeats: int) -> Iterator[Calibration]:
    """Time the plan of the preset, of whole-cohort steps, and one of many Poisson samples."""
    for overrides in ((), ("training.sampling_rate=0.1", "training.local_steps=10")):
        config = _config(*overrides)
        plan = _plan(config, num_patients)
        mechanism = plan.mechanism(plan.num_rounds)
        seconds = interleaved(
            {
                "calibrate": partial(_plan, config, num_patients),
                "cross-check": partial(cross_check.cross_check, mechanism, plan.delta),
            },
            num_repeats=num_repeats,
            before_each=_forget_prices,
        )
        yield Calibration(
            sampling_rate=mechanism.sampling_rate,
            num_steps=mechanism.num_steps,
            noise_multiplier=mechanism.noise_multiplier,
            calibrate_seconds=statistics.median(seconds["calibrate"]),
            cross_check_seconds=statistics.median(seconds["cross-check"]),
            target_seconds=_CALIBRATION_TARGET_SECONDS,
        )


def _measure_ledger(num_patients: int, num_repeats: int) -> Iterator[LedgerCost]:
    """Time rounds on a young ledger and on one of a site that has trained for years."""
    for num_earlier in (0, _MANY_RELEASES):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ledger.sqlite"
            ledger, rounds = Ledger(path), itertools.count()
            cohort = ledger.cohort(str(patient) for patient in range(num_patients))

            def play(ledger: Ledger = ledger, cohort: Cohort = cohort, rounds: Iterator[int] = rounds) -> None:
                granted = ledger.reserve(_release(cohort, next(rounds)), cohort, _NO_LIMIT)
                if isinstance(granted, Reservation):
                    ledger.commit(granted, bytes(_REPLY_BYTES))

            for _ in range(num_earlier):
                play()
            seconds = interleaved({"round": play, "open": partial(Ledger, path)}, num_repeats=num_repeats)
        yield LedgerCost(
            num_earlier_releases=num_earlier,
            round_seconds=statistics.median(seconds["round"]),
            open_seconds=statistics.median(seconds["open"]),
            target_seconds=_LEDGER_TARGET_SECONDS,
        )


def _release(cohort: Cohort, number: int) -> Reserved:
    return Reserved(
        purpose=Purpose.TRAINING,
        run="benchmark",
        server_round=number,
        request=str(number),
        cohort=cohort.fingerprint,
        num_patients_declared=len(cohort.members),
        mechanism=Mechanism(noise_multiplier=1e3, sampling_rate=1.0, num_steps=1),
        delta=_NO_LIMIT.max_delta,
        target_epsilon=1e3,
        max_grad_norm=1.0,
        noise=NoiseSource.SECURE,
    )


def interleaved(
    actions: Mapping[str, Callable[[], object]], *, num_repeats: int, before_each: Callable[[], None] | None = None
) -> dict[str, list[float]]:
    """Time every action ``num_repeats`` times, in turns, after one turn that does not count.

    Args:
        actions: by name.
        num_repeats: at least 1.
        before_each: called before each action, untimed.

    Returns:
        The seconds of each action, by name.

    Raises:
        ValueError: ``num_repeats`` is below 1.
    """
    if num_repeats < 1:
        raise ValueError(f"Expected num_repeats={num_repeats} >= 1.")
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(1 + num_repeats):
        for name, action in actions.items():
            if before_each is not None:
                before_each()
            start = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def synthetic_lesions(num_patients: int, *, shape: tuple[int, ...], clinical_width: int) -> Lesions:
    """Return random lesions of ``num_patients`` patients, 1 to 24 each and about 2 on average, as CBIS-DDSM masses.

    Args:
        num_patients: at least 1.
        shape: of one lesion's cached features or pixels.
        clinical_width: length of the clinical vector.
    """
    generator = torch_generator(0, "benchmark")
    sizes = 1 + torch.poisson(torch.full((num_patients,), _MEAN_FURTHER_LESIONS), generator=generator).long()
    sizes[0] = _MOST_LESIONS
    count = int(sizes.sum())
    return Lesions(
        images=torch.rand((count, *shape), generator=generator),
        has_image=torch.ones(count, dtype=torch.bool),
        clinical=torch.rand((count, clinical_width), generator=generator),
        labels=(torch.rand(count, generator=generator) < 0.5).float(),
        patients=torch.repeat_interleave(torch.arange(num_patients), sizes),
    )


def _config(*overrides: str) -> ExperimentConfig:
    # All features: the largest head, and no public lesions to compute components from. Single views, for pixels.
    fixed = ["preset=cbis_mass", "model.image_components=0", "data.views=own", "data.features=descriptors"]
    return compose([*fixed, "data.root=.", "privacy=patient", *overrides])


def _plan(config: ExperimentConfig, num_patients: int) -> PrivacyPlan:
    num_declared = declared_size(num_patients, config.privacy.cohort_rounding)
    return PrivacyPlan.calibrate(config.privacy, config.training, num_declared)


def _forget_prices() -> None:
    """Empty every cache of the accounting, so that each plan is calibrated as at a site's first request."""
    for module in (accounting, cross_check, noise_calibration):
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


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
        for batch in by_patient.batches(patients, num_lesions=1):
            torch.autograd.backward(summed_loss(model, batch, config) / len(patients))
        optimizer.step()
