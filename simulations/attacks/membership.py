"""Empirical audit of the private mechanism: a membership attack whose success is a lower bound on epsilon.

The attacker is the one that the guarantee is stated against: a server that chooses the parameters, sends the same ones
every round, sees every update, and knows all data but whether one patient, the canary, took part. Each trial runs
``train_round`` itself twice, with the canary and without her, and the attacker scores both updates by their likelihood
ratio. If the scores tell the two worlds apart better than (epsilon, delta) allows, the mechanism has a fault.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from client.training.dp_sgd import LocalTraining
from client.training.gradient_methods import GradientMethod
from client.training.noise import NoiseGenerator
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.network.fusion import FusionNet, build_network
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.plan import PrivacyPlan
from shared_model.system.seeding import derive_seed
from shared_model.vocabulary import clinical_width
from simulations.attacks.canary import NUM_OTHERS, audited_config, lesions_with_canary
from simulations.attacks.epsilon_bounds import epsilon_lower_bounds
from simulations.attacks.faults import Fault, lesions_with_fault, with_fault
from simulations.attacks.observed_updates import observed_update, updates_by_patient

CONFIDENCE = 0.95
"""That all bounds of one audit hold together."""
_LARGE_DELTAS = (0.01, 0.1, 0.3, 0.5)


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
    def is_as_expected(self) -> bool:
        """Whether the claim stands without a fault, and falls with one."""
        return self.is_violated == (self.fault is not Fault.NONE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditCase:
    """What one audit attacks: the mechanism in one of its forms, or with one fault."""

    fault: Fault = Fault.NONE
    gradient_method: GradientMethod = GradientMethod.GHOST
    sampling_rate: float = 1.0


AUDIT_CASES = (
    *(AuditCase(gradient_method=method) for method in GradientMethod),
    AuditCase(sampling_rate=0.5),
    *(AuditCase(fault=fault) for fault in Fault if fault is not Fault.NONE),
)
"""The mechanism with each gradient method and with sampled patients, and every fault in it."""

Progress = Callable[[int, int], None]
"""Called with the number of trials done and the number in all."""


def audit(
    case: AuditCase, *, target_epsilon: float, num_trials: int, seed: int, progress: Progress | None = None
) -> Audit:
    """Attack a round-by-round training of an early-fusion head at ``target_epsilon`` and delta 1e-4.

    Small deltas make the large claims; a bound on them needs more trials than any audit has. A fault shows at large
    deltas, where the claim is small: so both are compared.

    Args:
        case: what to attack.
        target_epsilon: of the plan, positive.
        num_trials: of each world, at least 4: half of them choose the thresholds, the others are counted.
        seed: of data, patients' draws and noise; the result depends on nothing else.
        progress: called after each trial of both worlds.

    Raises:
        ValueError: too few trials.
    """
    if num_trials < 4:
        raise ValueError(f"Expected num_trials={num_trials} >= 4.")
    config = audited_config(sampling_rate=case.sampling_rate, target_epsilon=target_epsilon)
    plan = PrivacyPlan.calibrate(config, NUM_OTHERS)
    attack = _Attack.from_case(case, config, plan)
    noise = NoiseGenerator.from_seed(derive_seed(seed, *dataclasses.astuple(case)))
    scores = np.empty((2, num_trials))
    for trial in range(num_trials):
        scores[:, trial] = [attack.score(lesions, noise) for lesions in (attack.without_canary, attack.with_canary)]
        if progress is not None:
            progress(trial + 1, num_trials)
    deltas = (plan.delta, *_LARGE_DELTAS)
    mechanism = plan.mechanism(plan.num_rounds)
    lower_bounds = epsilon_lower_bounds(scores[0], scores[1], deltas, confidence=CONFIDENCE)
    return Audit(
        fault=case.fault,
        gradient_method=case.gradient_method,
        sampling_rate=case.sampling_rate,
        noise_multiplier=plan.noise_multiplier,
        num_trials=num_trials,
        bounds=tuple(
            Bound(delta=delta, claimed_epsilon=epsilon(mechanism, delta), least_epsilon=lower_bound)
            for delta, lower_bound in zip(deltas, lower_bounds, strict=True)
        ),
    )


def audits(*, target_epsilon: float, num_trials: int, seed: int, progress: Progress | None = None) -> Iterator[Audit]:
    """Yield the audit of each of ``AUDIT_CASES``; ``progress`` counts the trials of all."""
    total = len(AUDIT_CASES) * num_trials
    for index, case in enumerate(AUDIT_CASES):

        def advance(done: int, _: int, before: int = index * num_trials) -> None:
            if progress is not None:
                progress(before + done, total)

        yield audit(case, target_epsilon=target_epsilon, num_trials=num_trials, seed=seed, progress=advance)


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
    def from_case(cls, case: AuditCase, config: ExperimentConfig, plan: PrivacyPlan) -> "_Attack":
        lesions = lesions_with_canary(clinical_width(config.data.features), config.seed)
        network = build_network(config.model, lesions.clinical.shape[1], seed=config.seed)
        direction, signal = _direction(network, lesions, LocalTraining(config=config.training, plan=None))
        is_canary = lesions.patients == 0
        lesions = lesions_with_fault(lesions, case.fault)
        return cls(
            network=network,
            training=LocalTraining(
                config=config.training,
                plan=with_fault(plan, case.fault),
                gradient_method=case.gradient_method,
            ),
            without_canary=lesions.select(~is_canary),
            with_canary=lesions,
            direction=direction,
            signal=signal,
            scale=plan.sampling_rate * plan.num_patients_declared / config.training.learning_rate / plan.max_grad_norm,
            plan=plan,
        )

    def score(self, lesions: Lesions, noise: NoiseGenerator) -> float:
        """Return the log-likelihood ratio of the canary's presence, over all rounds from the same parameters."""
        return sum(self._score_of_round(lesions, noise) for _ in range(self.plan.num_rounds))

    def _score_of_round(self, lesions: Lesions, noise: NoiseGenerator) -> float:
        update = observed_update(self.network, lesions, self.training, noise)
        projection = self.scale * float(self.direction @ update)
        exponent = (self.signal * projection - self.signal**2 / 2) / self.plan.noise_multiplier**2
        rate = self.plan.sampling_rate
        # The logarithm of 1 - rate + rate * exp(exponent).
        return float(np.logaddexp(exponent + math.log(rate), math.log1p(-rate))) if rate < 1 else exponent


def _direction(network: FusionNet, lesions: Lesions, training: LocalTraining) -> tuple[Tensor, float]:
    """Return the attacker's direction, and how much of the canary's gradient lies along it, in (0, 1].

    It is at a right angle to the gradients of all others, so that these do not change a score taken along it.
    """
    # Without privacy, one step on one patient is the patient's gradient times the learning rate.
    gradients = updates_by_patient(network, lesions, training)
    canary = gradients[0] / gradients[0].norm()
    others, _ = torch.linalg.qr(gradients[1:].T)
    direction = canary - others @ (others.T @ canary)
    signal = float(direction.norm())
    return direction / signal, signal
