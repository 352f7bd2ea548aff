"""Audit of the private mechanism in one training run (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846).

Many invented patients, the canaries, take part or not, each by a fair coin of her own. The auditor is the hostile
server: it sends the same parameters every round, sees every update, and knows everything but the coins. It guesses the
coins that show most clearly and abstains on the others. The number of right guesses is a lower bound on epsilon.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from client.training.dp_sgd import LocalTraining
from client.training.noise import NoiseGenerator
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import source_fingerprint
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError
from shared_model.network.fusion import FusionNet, build_network
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.one_run_bound import OneRunAudit, least_epsilon
from shared_model.privacy.plan import PrivacyPlan
from shared_model.system.seeding import derive_seed
from shared_model.vocabulary import clinical_width
from simulations.attacks.faults import Fault, lesions_with_fault, with_fault
from simulations.attacks.observed_updates import observed_update, updates_by_patient
from simulations.attacks.one_run_canaries import MAX_CANARIES, NUM_OTHERS, canaries, one_run_config, others

CONFIDENCE = 0.95
_MIN_CANARIES = 3
_GUESSED = 3
"""Of so many canaries the auditor guesses one, fixed beforehand: the clearest third proves most, or nearly."""

Progress = Callable[[int, int], None]
"""Called with the number of rounds done and the number in all."""


def audit_in_one_run(
    *,
    target_epsilon: float,
    delta: float = 1e-4,
    num_canaries: int = 300,
    seed: int,
    fault: Fault = Fault.NONE,
    progress: Progress | None = None,
) -> OneRunAudit:
    """Train once at ``target_epsilon`` and ``delta`` with some of the canaries, and guess which.

    Args:
        target_epsilon: of the plan, positive.
        delta: of the plan, and the one at which epsilon is bounded.
        num_canaries: 3 to 320.
        seed: of data, coins and noise; the result depends on nothing else.
        fault: a mistake to plant in the mechanism.
        progress: called after each round.

    Raises:
        ConfigError: too few or too many canaries, or a target out of bounds.
        PrivacyError: ``delta`` is too large for so many patients.
    """
    if not _MIN_CANARIES <= num_canaries <= MAX_CANARIES:
        raise ConfigError(f"Expected canaries={num_canaries} in [{_MIN_CANARIES}, {MAX_CANARIES}].")
    config = one_run_config(target_epsilon=target_epsilon, delta=delta)
    plan = PrivacyPlan.calibrate(config, NUM_OTHERS + num_canaries // 2)
    took_part = np.random.default_rng(derive_seed(seed, "coins")).random(num_canaries) < 0.5
    scores = _Auditor.prepare(config, plan, num_canaries=num_canaries, seed=seed).scores(
        torch.from_numpy(took_part), fault=fault, seed=seed, progress=progress
    )
    clearest = np.argsort(-np.abs(scores), kind="stable")[: num_canaries // _GUESSED]
    num_right = int(((scores > 0) == took_part)[clearest].sum())
    return OneRunAudit(
        claimed_epsilon=epsilon(plan.mechanism(plan.num_rounds), delta),
        delta=delta,
        confidence=CONFIDENCE,
        num_canaries=num_canaries,
        num_guesses=len(clearest),
        num_right=num_right,
        least_epsilon=least_epsilon(
            num_right, delta, num_guesses=len(clearest), num_canaries=num_canaries, confidence=CONFIDENCE
        ),
        num_rounds=plan.num_rounds,
        noise_multiplier=plan.noise_multiplier,
        seed=seed,
        fault=fault.name.lower(),
        source=source_fingerprint(),
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Auditor:
    """Everything that the auditor knows before the run."""

    network: FusionNet
    config: ExperimentConfig
    plan: PrivacyPlan
    canaries: Lesions
    others: Lesions
    directions: Tensor
    """``(P, M)``, float64: what each canary adds to a sum, in clipping norms."""
    known: Tensor
    """``(P,)``, float64: what all others add."""

    @classmethod
    def prepare(cls, config: ExperimentConfig, plan: PrivacyPlan, *, num_canaries: int, seed: int) -> "_Auditor":
        width = clinical_width(config.data.features)
        network = build_network(config.model, width, seed=config.seed)
        invented, rest = canaries(num_canaries, width), others(width, seed)
        training = LocalTraining(config=config.training, plan=None)
        return cls(
            network=network,
            config=config,
            plan=plan,
            canaries=invented,
            others=rest,
            directions=_clipped_gradients(network, invented, training, plan.max_grad_norm).T,
            known=_clipped_gradients(network, rest, training, plan.max_grad_norm).sum(0),
        )

    def scores(
        self, took_part: Tensor, *, fault: Fault, seed: int, progress: Progress | None
    ) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        """Run the rounds and return for each canary how clearly she took part ``(M,)``, negative if she did not."""
        lesions = _joined(self.canaries.select(took_part[self.canaries.patients]), self.others)
        lesions = lesions_with_fault(lesions, fault)
        training = LocalTraining(config=self.config.training, plan=with_fault(self.plan, fault))
        noise = NoiseGenerator.from_seed(derive_seed(seed, "one-run noise"))
        scale = self.plan.num_patients_declared / self.config.training.learning_rate / self.plan.max_grad_norm
        total = torch.zeros_like(self.known)
        for server_round in range(self.plan.num_rounds):
            total += scale * observed_update(self.network, lesions, training, noise) - self.known
            if progress is not None:
                progress(server_round + 1, self.plan.num_rounds)
        # Least squares takes out what canaries share: their bias.
        found = torch.linalg.lstsq(self.directions, (total / self.plan.num_rounds).unsqueeze(1)).solution.squeeze(1)
        return np.asarray(found.numpy() - 0.5)


def _clipped_gradients(network: FusionNet, lesions: Lesions, training: LocalTraining, max_grad_norm: float) -> Tensor:
    """Return what each patient adds to a sum ``(patients, P)``, in clipping norms, by one step without privacy."""
    gradients = updates_by_patient(network, lesions, training) / training.config.learning_rate / max_grad_norm
    lengths: Tensor = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
    return gradients / lengths.clamp_min(1.0)


def _joined(first: Lesions, second: Lesions) -> Lesions:
    names = [field.name for field in dataclasses.fields(Lesions)]
    return Lesions(**{name: torch.cat((getattr(first, name), getattr(second, name))) for name in names})
