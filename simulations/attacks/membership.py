"""Attacks the private mechanism and turns the success into a lower bound on epsilon: an empirical audit.

The attacker is the one that the guarantee is stated against: a server that chooses the parameters, sends the same ones
every round, sees every update, and knows all data but whether one patient, the canary, took part. For each trial of
each world, with and without the canary, ``train_round`` itself runs; the attacker scores what came out by its
likelihood ratio. Whoever tells the worlds apart better than (epsilon, delta) allows has found a fault.
"""

import dataclasses
import enum
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import beta
from torch import Tensor

from client.training.clipped_gradients import trainable_parameters
from client.training.dp_sgd import LocalTraining, train_round
from client.training.gradient_methods import GradientMethod
from client.training.noise import NoiseGenerator
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.fusion import FusionNet, build_network
from shared_model.network.state import load_trainable, trainable_state
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.plan import PrivacyPlan
from shared_model.system.seeding import derive_seed
from shared_model.vocabulary import clinical_width
from simulations.seeding import torch_generator

FloatArray = NDArray[np.float64]

CONFIDENCE = 0.95
"""That all bounds of one audit hold together."""
_NUM_OTHERS, _MOST_LESIONS_OF_OTHERS, _LESIONS_OF_CANARY = 10, 3, 24
_CANARY_ENTRY = 20.0
_NUM_ROUNDS = 2
_LARGE_DELTAS = (0.01, 0.1, 0.3, 0.5)
_WITHOUT_CLIPPING = 1e3
"""Times the clipping norm: longer than any gradient here."""


class Fault(enum.StrEnum):
    """A mistake planted in the mechanism, which the price that the plan claims does not know of."""

    NONE = "none"
    HALF_NOISE = "noise at half scale"
    NO_CLIPPING = "clipping switched off"
    PER_LESION = "lesions clipped one by one"
    """A patient with many lesions then moves the sum by many times the clipping norm."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
    """What was claimed at one delta, and what the attack proves."""

    delta: float
    claimed_epsilon: float
    """Of the accountant of record, for the plan without faults."""
    least_epsilon: float
    """Lower confidence bound from the attack; 0 where it found nothing."""

    @property
    def is_violated(self) -> bool:
        """Whether the attack did better than claimed."""
        return self.least_epsilon > self.claimed_epsilon


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """The bounds of one mechanism, at several deltas, that hold together with ``CONFIDENCE``."""

    fault: Fault
    gradient_method: GradientMethod
    sampling_rate: float
    noise_multiplier: float
    """As planned."""
    num_trials: int
    """Of each world."""
    bounds: tuple[Bound, ...]

    @property
    def is_violated(self) -> bool:
        """Whether the attack did better than claimed at any delta."""
        return any(bound.is_violated for bound in self.bounds)

    @property
    def is_as_it_should_be(self) -> bool:
        """Whether the claim stands without a fault, and falls with one."""
        return self.is_violated == (self.fault is not Fault.NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What one audit attacks."""

    fault: Fault = Fault.NONE
    gradient_method: GradientMethod = GradientMethod.GHOST
    sampling_rate: float = 1.0


TARGETS = (
    *(Target(gradient_method=method) for method in GradientMethod),
    Target(sampling_rate=0.5),
    *(Target(fault=fault) for fault in Fault if fault is not Fault.NONE),
)
"""The mechanism with each gradient method and with sampled patients, and every fault in it."""

Progress = Callable[[int, int], None]
"""Called with the number of trials done and the number in all."""


def audit(
    target: Target, *, target_epsilon: float, num_trials: int, seed: int, progress: Progress | None = None
) -> Audit:
    """Attack a round-by-round training of an early-fusion head at ``target_epsilon`` and delta 1e-4.

    Small deltas make the large claims; a bound on them needs more trials than any audit has. A fault shows at large
    deltas, where the claim is small: so both are compared.

    Args:
        target: what to attack.
        target_epsilon: of the plan, positive.
        num_trials: of each world, at least 4: half of them choose the thresholds, the others are counted.
        seed: of data, patients' draws and noise; the result depends on nothing else.
        progress: called after each trial of both worlds.

    Raises:
        ValueError: too few trials.
    """
    if num_trials < 4:
        raise ValueError(f"Expected num_trials={num_trials} >= 4.")
    config = _config(target, target_epsilon)
    plan = PrivacyPlan.calibrate(config.privacy, config.training, _NUM_OTHERS)
    attack = _Attack.prepare(config, target, plan)
    noise = NoiseGenerator.from_seed(derive_seed(seed, *dataclasses.astuple(target)))
    scores = np.empty((2, num_trials))
    for trial in range(num_trials):
        scores[:, trial] = [attack.score(lesions, noise) for lesions in (attack.without_canary, attack.with_canary)]
        if progress is not None:
            progress(trial + 1, num_trials)
    deltas = (plan.delta, *_LARGE_DELTAS)
    mechanism = plan.mechanism(plan.num_rounds)
    least = least_epsilons(scores[0], scores[1], deltas, confidence=CONFIDENCE)
    return Audit(
        fault=target.fault,
        gradient_method=target.gradient_method,
        sampling_rate=target.sampling_rate,
        noise_multiplier=plan.noise_multiplier,
        num_trials=num_trials,
        bounds=tuple(
            Bound(delta=delta, claimed_epsilon=epsilon(mechanism, delta), least_epsilon=found)
            for delta, found in zip(deltas, least, strict=True)
        ),
    )


def audits(*, target_epsilon: float, num_trials: int, seed: int, progress: Progress | None = None) -> Iterator[Audit]:
    """Yield the audit of each of ``TARGETS``; ``progress`` counts the trials of all."""
    total = len(TARGETS) * num_trials
    for index, target in enumerate(TARGETS):

        def advance(done: int, _: int, before: int = index * num_trials) -> None:
            if progress is not None:
                progress(before + done, total)

        yield audit(target, target_epsilon=target_epsilon, num_trials=num_trials, seed=seed, progress=advance)


def least_epsilons(
    without: FloatArray, with_canary: FloatArray, deltas: Sequence[float], *, confidence: float
) -> list[float]:
    """Return lower bounds on epsilon at each of ``deltas`` that hold together with at least ``confidence``.

    Under (epsilon, delta)-differential privacy ``power <= exp(epsilon) * false alarms + delta`` for every test,
    whichever of the two worlds it rejects (Kairouz et al. 2015, Theorem 2.1). The first half of the scores chooses
    world and threshold for each delta; the second half bounds power and false alarms (Clopper & Pearson 1934), each
    at the level that the number of bounds asks for (Bonferroni).

    Args:
        without: ``(N,)``, scores without the canary, ``N`` >= 4.
        with_canary: ``(N,)``, scores with the canary; larger scores speak for its presence.
        deltas: each in (0, 1).
        confidence: in (0, 1).
    """
    half = len(without) // 2
    level = 1 - (1 - confidence) / (2 * len(deltas))
    # Each test rejects its first world where the score is at least a threshold.
    tests = ((without, with_canary), (-with_canary, -without))
    found = []
    for delta in deltas:
        chosen, threshold, most = tests[0], math.inf, 0.0
        for test in tests:
            null, other = (scores[:half] for scores in test)
            thresholds = np.concatenate((null, other))
            bounds = _least_epsilons(null, other, thresholds, delta=delta, level=level)
            if bounds.max() > most:
                chosen, threshold, most = test, thresholds[bounds.argmax()], bounds.max()
        null, other = (scores[half:] for scores in chosen)
        found.append(float(_least_epsilons(null, other, np.array([threshold]), delta=delta, level=level)[0]))
    return found


def _least_epsilons(
    null: FloatArray, other: FloatArray, thresholds: FloatArray, *, delta: float, level: float
) -> FloatArray:
    """Return what each threshold proves ``(K,)``, 0 where it proves nothing."""
    power = share_at_least(_count(other, thresholds), len(other), level=level)
    false_alarms = share_at_most(_count(null, thresholds), len(null), level=level)
    return np.log(np.maximum((power - delta) / false_alarms, 1.0))


def _count(scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    return np.asarray(len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left"), dtype=np.float64)


def share_at_least(counts: FloatArray, total: int, *, level: float) -> FloatArray:
    """Return exact lower confidence limits of shares of which ``counts`` of ``total`` trials were seen."""
    return np.where(counts > 0, beta.ppf(1 - level, np.maximum(counts, 1), total - counts + 1), 0.0)


def share_at_most(counts: FloatArray, total: int, *, level: float) -> FloatArray:
    """Return exact upper confidence limits of shares of which ``counts`` of ``total`` trials were seen."""
    return np.where(counts < total, beta.ppf(level, counts + 1, np.maximum(total - counts, 1)), 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Attack:
    """Everything that the attacker knows and runs."""

    network: FusionNet
    training: LocalTraining
    """With the fault, if any."""
    without_canary: Lesions
    with_canary: Lesions
    direction: Tensor
    """``(P,)``, float64, unit length: along the canary's gradient, at a right angle to everyone else's."""
    signal: float
    """What the canary's clipped gradient adds along ``direction``, in clipping norms."""
    scale: float
    """Turns a difference of parameters into a noisy sum in clipping norms, by the plan without faults."""
    plan: PrivacyPlan

    @classmethod
    def prepare(cls, config: ExperimentConfig, target: Target, plan: PrivacyPlan) -> "_Attack":
        lesions = _cohort(clinical_width(config.data.features), config.seed)
        network = build_network(config.model, lesions.clinical.shape[1], seed=config.seed)
        direction, signal = _direction(network, lesions, LocalTraining(config=config.training, plan=None))
        is_canary = lesions.patients == 0
        if target.fault is Fault.PER_LESION:
            lesions = dataclasses.replace(lesions, patients=torch.arange(len(lesions)))
        return cls(
            network=network,
            training=LocalTraining(
                config=config.training,
                plan=_with_fault(plan, target.fault),
                gradient_method=target.gradient_method,
            ),
            without_canary=lesions.select(~is_canary),
            with_canary=lesions,
            direction=direction,
            signal=signal,
            scale=plan.sampling_rate * plan.num_patients_declared / config.training.learning_rate / plan.max_grad_norm,
            plan=plan,
        )

    def score(self, lesions: Lesions, noise: NoiseGenerator) -> float:
        """Return the log-likelihood ratio of all rounds, from the same parameters each, for the canary's presence."""
        return sum(self._score_of_round(lesions, noise) for _ in range(self.plan.num_rounds))

    def _score_of_round(self, lesions: Lesions, noise: NoiseGenerator) -> float:
        update = _update(self.network, lesions, self.training, noise)
        seen = self.scale * float(self.direction @ update)
        exponent = (self.signal * seen - self.signal**2 / 2) / self.plan.noise_multiplier**2
        rate = self.plan.sampling_rate
        # The logarithm of 1 - rate + rate * exp(exponent).
        return float(np.logaddexp(exponent + math.log(rate), math.log1p(-rate))) if rate < 1 else exponent


def _update(network: FusionNet, lesions: Lesions, training: LocalTraining, noise: NoiseGenerator) -> Tensor:
    """Train from the present parameters, put them back, and return old minus new ``(P,)``, float64."""
    start = trainable_state(network)
    before = _flat(network)
    train_round(network, lesions, training=training, noise=noise)
    after = _flat(network)
    load_trainable(network, start)
    return before - after


def _flat(network: FusionNet) -> Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in trainable_parameters(network)])


def _direction(network: FusionNet, lesions: Lesions, training: LocalTraining) -> tuple[Tensor, float]:
    """Return the attacker's direction, and how much of the canary's gradient lies along it, in (0, 1].

    Whatever the others contribute, and whoever of them is drawn, cannot disturb a score taken along it.
    """
    # Without privacy, one step on one patient is the patient's gradient times the learning rate.
    gradients = [
        _update(network, lesions.select(lesions.patients == patient), training, NoiseGenerator.from_seed(0))
        for patient in range(lesions.num_patients)
    ]
    canary = gradients[0] / gradients[0].norm()
    others, _ = torch.linalg.qr(torch.stack(gradients[1:], dim=1))
    direction = canary - others @ (others.T @ canary)
    signal = float(direction.norm())
    return direction / signal, signal


def _with_fault(plan: PrivacyPlan, fault: Fault) -> PrivacyPlan:
    if fault is Fault.HALF_NOISE:
        return dataclasses.replace(plan, noise_multiplier=plan.noise_multiplier / 2)
    if fault is Fault.NO_CLIPPING:
        # As much noise as before.
        return dataclasses.replace(
            plan,
            max_grad_norm=plan.max_grad_norm * _WITHOUT_CLIPPING,
            noise_multiplier=plan.noise_multiplier / _WITHOUT_CLIPPING,
        )
    return plan


def _config(target: Target, target_epsilon: float) -> ExperimentConfig:
    return compose(
        [
            "preset=cbis_mass",
            "privacy=patient",
            "data.root=.",
            "data.features=descriptors",
            "model.fusion=early",
            "model.image_components=0",
            f"privacy.target_epsilon={target_epsilon}",
            "privacy.delta=1e-4",
            f"training.num_rounds={_NUM_ROUNDS}",
            "training.local_steps=1",
            "training.positive_weight=10",
            "training.momentum=0",
            "training.weight_decay=0",
            f"training.sampling_rate={target.sampling_rate}",
        ]
    )


def _cohort(width: int, seed: int) -> Lesions:
    """Return random lesions of the canary, patient 0, whose many lesions are all alike, and of the others."""
    generator = torch_generator(seed, "audit")
    sizes = torch.randint(1, _MOST_LESIONS_OF_OTHERS + 1, (1 + _NUM_OTHERS,), generator=generator)
    sizes[0] = _LESIONS_OF_CANARY
    rows = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    # One random lesion per patient suffices: several that are alike are still several rows.
    images = torch.randn((len(sizes), FEATURE_WIDTH), generator=generator)
    clinical = 2 * torch.rand((len(sizes), width), generator=generator) - 1
    # The canary alone has something in the last column, and much of it: a gradient that no other resembles.
    clinical[:, -1] = 0
    clinical[0, -1] = _CANARY_ENTRY
    labels = (torch.rand(len(sizes), generator=generator) < 0.5).float()
    labels[0] = 1.0
    return Lesions(
        images=images[rows],
        has_image=torch.ones(len(rows), dtype=torch.bool),
        clinical=clinical[rows],
        labels=labels[rows],
        patients=rows,
    )
