"""The privacy plan of a run at a site: sampling, clipping, noise and price of all its releases in one object.

For example, a plan for 20 rounds at epsilon 8 says which noise each step gets, and what any number of rounds costs. A
run may begin with one release of the features' mean and end with one of a histogram of scores; both are of the same
patients, and the budget of the run is that of all releases together.

With ``federation.secure_sum`` the noise of the plan is that of the sum over the sites, and each of them adds a share of
it: who sees only sums learns what the plan says, and who knows the shares of other sites learns more, at most what the
share of one site still hides.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Self

from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import PrivacyError
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.cross_check import cross_check
from shared_model.privacy.mechanism import Mechanism, require_delta
from shared_model.privacy.noise_calibration import calibrate_noise, noise_of_share
from shared_model.privacy.noise_shares import left_of, own_share, share


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """Sampling, clipping, noise and price of all that one site releases about its training patients in a run.

    They are made together, so that they cannot disagree.

    All fields are public: none depends on patients, and the cohort's size is the declared one.

    Raises:
        PrivacyError: ``delta`` is not below 1 / ``num_patients_declared``. A delta of 1 / ``n`` would allow publishing
            the data of one patient in ``n``.
        ValueError: another field is out of bounds.
    """

    noise_multiplier: float
    """Of one training step."""
    sampling_rate: float
    max_grad_norm: float
    delta: float
    target_epsilon: float
    num_rounds: int
    steps_per_round: int
    num_patients_declared: int
    mean_noise_multiplier: float | None = None
    """Of the features' mean, before training; None where there is no such release."""
    histogram_noise_multiplier: float | None = None
    """Of the histogram of scores, after training; None where there is no such release."""
    num_noise_shares: int = 1
    """Shares of noise that a sum has at least, ``federation.min_sites`` of a secure sum; 1 where a site sends all of it
    itself. The noise multipliers here are those of so many shares together."""

    def __post_init__(self) -> None:
        require_delta(self.delta)
        for name in ("max_grad_norm", "target_epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"Expected {name}={getattr(self, name)} > 0 and finite.")
        for name in ("num_rounds", "steps_per_round", "num_patients_declared", "num_noise_shares"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected {name}={getattr(self, name)} >= 1.")
        if not self.delta < 1 / self.num_patients_declared:
            raise PrivacyError(
                f"Expected delta={self.delta} < 1 / num_patients_declared={self.num_patients_declared}; set "
                f"privacy.delta={_delta_below(self.num_patients_declared):g} or less."
            )
        self.released(has_mean=True, num_rounds=1, has_histogram=True)

    @classmethod
    def calibrate(cls, config: ExperimentConfig, num_patients_declared: int) -> Self:
        """Return the plan of least noise that keeps the target epsilon of ``config.privacy`` over the whole run.

        Raises:
            PrivacyError: ``privacy.delta`` is too large for a cohort of ``num_patients_declared``, or two accountants
                disagree on the price.
            ValueError: privacy is off.
        """
        privacy, training = config.privacy, config.training
        if privacy.target_epsilon is None or privacy.delta is None or privacy.max_grad_norm is None:
            raise ValueError(f"Expected privacy.mode={privacy.mode} to be patient.")
        mean_noise, histogram_noise = (
            noise_of_share(share, privacy.target_epsilon, delta=privacy.delta) if is_released and share else None
            for share, is_released in (
                (privacy.mean_share, config.has_private_mean),
                (privacy.histogram_share, config.has_training_histogram),
            )
        )
        noise_multiplier = calibrate_noise(
            privacy.target_epsilon,
            delta=privacy.delta,
            sampling_rate=training.sampling_rate,
            num_steps=training.num_rounds * training.local_steps,
            beside=tuple(_release(noise) for noise in (mean_noise, histogram_noise) if noise is not None),
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
            mean_noise_multiplier=mean_noise,
            histogram_noise_multiplier=histogram_noise,
            num_noise_shares=config.num_noise_shares,
        )
        cross_check(plan.released(has_mean=True, num_rounds=plan.num_rounds, has_histogram=True), plan.delta)
        return plan

    def mechanism(self, num_rounds: int) -> Mechanism:
        """Return the mechanism of ``num_rounds`` >= 1 rounds of training together."""
        return Mechanism(
            noise_multiplier=self.noise_multiplier,
            sampling_rate=self.sampling_rate,
            num_steps=num_rounds * self.steps_per_round,
        )

    def released(self, *, has_mean: bool, num_rounds: int, has_histogram: bool) -> tuple[Mechanism, ...]:
        """Return the mechanisms of what was released: of mean and histogram, where the plan has them, and training."""
        parts = []
        if has_mean and self.mean_noise_multiplier is not None:
            parts.append(_release(self.mean_noise_multiplier))
        if num_rounds:
            parts.append(self.mechanism(num_rounds))
        if has_histogram and self.histogram_noise_multiplier is not None:
            parts.append(_release(self.histogram_noise_multiplier))
        return tuple(parts)

    def share(self, noise_multiplier: float) -> float:
        """Return the noise multiplier with which one site adds its share; see ``noise_shares.share``."""
        return share(noise_multiplier, self.num_noise_shares)

    def own_share(self, mechanism: Mechanism) -> Mechanism | None:
        """Return what ``mechanism`` is to whoever knows all shares but the site's; see ``noise_shares.own_share``."""
        return own_share(mechanism, self.num_noise_shares)

    def epsilon_by_colluding(self, released: Sequence[Mechanism]) -> tuple[float, ...]:
        """Return what ``released`` costs if 0, 1, ..., ``num_noise_shares`` - 1 sites work with the coordinator.

        The first is the price to whoever sees only sums, the last that to whoever knows all but the site's own shares.
        Infinite where too little noise is left for any guarantee.
        """
        return tuple(
            epsilon([left_of(mechanism, self.num_noise_shares, num_colluding) for mechanism in released], self.delta)
            for num_colluding in range(self.num_noise_shares)
        )


def _release(noise_multiplier: float) -> Mechanism:
    return Mechanism(noise_multiplier=noise_multiplier, sampling_rate=1.0, num_steps=1)


def _delta_below(num_patients: int) -> float:
    """Return the largest power of ten below ``1 / num_patients``.

    >>> _delta_below(9_999), _delta_below(10_000)
    (0.0001, 1e-05)
    """
    return float(f"1e-{len(str(num_patients))}")
