"""The privacy plan of a site's training: sampling, clipping, noise and price in one object.

For example, a plan for 20 rounds at epsilon 8 says which noise each step gets, and what any number of rounds costs.
"""

import dataclasses
import math
from typing import Self

from shared_model.config.site_sections import PrivacyConfig, TrainingConfig
from shared_model.errors import PrivacyError
from shared_model.privacy.cross_check import cross_check
from shared_model.privacy.mechanism import Mechanism, require_delta
from shared_model.privacy.noise_calibration import calibrate_noise


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """Sampling, clipping, noise and price of one site's training, made together so that they cannot disagree.

    All fields are public: none depends on patients, and the cohort's size is the declared one.

    Raises:
        PrivacyError: ``delta`` is not below 1 / ``num_patients_declared``. A delta of 1 / ``n`` would allow publishing
            the data of one patient in ``n``.
        ValueError: another field is out of bounds.
    """

    noise_multiplier: float
    sampling_rate: float
    max_grad_norm: float
    delta: float
    target_epsilon: float
    num_rounds: int
    steps_per_round: int
    num_patients_declared: int

    def __post_init__(self) -> None:
        require_delta(self.delta)
        for name in ("max_grad_norm", "target_epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"Expected {name}={getattr(self, name)} > 0 and finite.")
        for name in ("num_rounds", "steps_per_round", "num_patients_declared"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected {name}={getattr(self, name)} >= 1.")
        if not self.delta < 1 / self.num_patients_declared:
            raise PrivacyError(f"Expected delta={self.delta} < 1 / num_patients_declared={self.num_patients_declared}.")
        self.mechanism(1)

    @classmethod
    def calibrate(cls, privacy: PrivacyConfig, training: TrainingConfig, num_patients_declared: int) -> Self:
        """Return the plan of least noise that keeps the target epsilon of ``privacy`` over all rounds of ``training``.

        Raises:
            PrivacyError: ``privacy.delta`` is too large for a cohort of ``num_patients_declared``, or two accountants
                disagree on the price.
            ValueError: ``privacy`` is off.
        """
        if privacy.target_epsilon is None or privacy.delta is None or privacy.max_grad_norm is None:
            raise ValueError(f"Expected privacy.mode={privacy.mode} to be patient.")
        noise_multiplier = calibrate_noise(
            privacy.target_epsilon,
            delta=privacy.delta,
            sampling_rate=training.sampling_rate,
            num_steps=training.num_rounds * training.local_steps,
        )
        plan = cls(
            noise_multiplier=noise_multiplier,
            sampling_rate=training.sampling_rate,
            max_grad_norm=privacy.max_grad_norm,
            delta=privacy.delta,
            target_epsilon=privacy.target_epsilon,
            num_rounds=training.num_rounds,
            steps_per_round=training.local_steps,
            num_patients_declared=num_patients_declared,
        )
        cross_check(plan.mechanism(plan.num_rounds), plan.delta)
        return plan

    def mechanism(self, num_rounds: int) -> Mechanism:
        """Return the mechanism of ``num_rounds`` >= 1 rounds together."""
        return Mechanism(
            noise_multiplier=self.noise_multiplier,
            sampling_rate=self.sampling_rate,
            num_steps=num_rounds * self.steps_per_round,
        )
