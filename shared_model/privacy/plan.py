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
from fractions import Fraction
from typing import Self

from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import PrivacyError
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.cross_check import cross_check
from shared_model.privacy.mechanism import Mechanism, require_delta
from shared_model.privacy.noise_calibration import calibrate_noise, noise_of_share


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
            raise PrivacyError(f"Expected delta={self.delta} < 1 / num_patients_declared={self.num_patients_declared}.")
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
            num_noise_shares=config.federation.min_sites if config.federation.secure_sum else 1,
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
        """Return the noise multiplier with which one site adds its share, rounded up in the last bit if need be.

        The squares of ``num_noise_shares`` shares add up to that of ``noise_multiplier`` or more.
        """
        square, near = Fraction(noise_multiplier) ** 2, noise_multiplier / math.sqrt(self.num_noise_shares)
        return _root_above(square / self.num_noise_shares, near=near)

    def own_share(self, mechanism: Mechanism) -> Mechanism | None:
        """Return what ``mechanism`` is to whoever knows all shares of its noise but the site's own.

        That is a coordinator that breaks the sum, or works with all other sites. None where the site adds all noise
        itself, so that nobody learns more than ``mechanism`` says.
        """
        if self.num_noise_shares == 1:
            return None
        return dataclasses.replace(mechanism, noise_multiplier=self.share(mechanism.noise_multiplier))

    def known_to(self, num_colluding: int, mechanism: Mechanism) -> Mechanism:
        """Return what ``mechanism`` is to a coordinator that works with ``num_colluding`` of the sites in the sum.

        These know their own shares, so that ``num_noise_shares - num_colluding`` are left; rounded down in the last
        bit, so that no price is below the true one. With none colluding it is ``mechanism`` itself.

        Raises:
            ValueError: ``num_colluding`` is not in [0, ``num_noise_shares``).
        """
        if not 0 <= num_colluding < self.num_noise_shares:
            raise ValueError(f"Expected num_colluding={num_colluding} in [0, {self.num_noise_shares}).")
        if num_colluding == 0:
            return mechanism
        share, num_left = self.share(mechanism.noise_multiplier), self.num_noise_shares - num_colluding
        left = _root_below(Fraction(share) ** 2 * num_left, near=share * math.sqrt(num_left))
        return dataclasses.replace(mechanism, noise_multiplier=left)

    def epsilon_by_colluding(self, released: Sequence[Mechanism]) -> tuple[float, ...]:
        """Return what ``released`` costs if 0, 1, ..., ``num_noise_shares`` - 1 sites work with the coordinator.

        The first is the price to whoever sees only sums, the last that to whoever knows all but the site's own shares.
        Infinite where too little noise is left for any guarantee.
        """
        return tuple(
            epsilon([self.known_to(num_colluding, mechanism) for mechanism in released], self.delta)
            for num_colluding in range(self.num_noise_shares)
        )


def _root_above(square: Fraction, *, near: float) -> float:
    """Return the smallest float whose square is at least ``square`` > 0, searched for from ``near`` on."""
    root = near
    while Fraction(root) ** 2 >= square:
        root = math.nextafter(root, 0.0)
    while Fraction(root) ** 2 < square:
        root = math.nextafter(root, math.inf)
    return root


def _root_below(square: Fraction, *, near: float) -> float:
    """Return the largest float whose square is at most ``square`` > 0, searched for from ``near`` on."""
    root = _root_above(square, near=near)
    return root if Fraction(root) ** 2 == square else math.nextafter(root, 0.0)


def _release(noise_multiplier: float) -> Mechanism:
    return Mechanism(noise_multiplier=noise_multiplier, sampling_rate=1.0, num_steps=1)
