"""What training costs in privacy: describe the mechanism first, price it second.

A site's training is ``num_steps`` Gaussian mechanisms in sequence, each on a Poisson sample of its patients (or on all
of them). The unit is the patient: two cohorts are neighbours when one patient, with all lesions, is added or removed.
Every figure errs on the private side: epsilon is never below the true one, noise never below what is needed.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Self

import dp_accounting
import numpy as np
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import PRVAccountant

from shared_model.config.server_sections import EvaluationConfig
from shared_model.config.site_sections import PrivacyConfig, TrainingConfig
from shared_model.errors import PrivacyError

_RDP_ORDERS = (*range(2, 65), 128, 256, 512, 1024)

_NEARLY_ALL = 1 - 1e-6
"""A higher sampling rate is priced as rate 1."""

_ROOT_TOLERANCE = 1e-9
"""Added to the closed form, whose root is found to 1e-12, so that rounding cannot put it below the true epsilon."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mechanism:
    """``num_steps``-fold composition of the Poisson-subsampled Gaussian mechanism of l2 sensitivity 1.

    Formal guarantee: (``epsilon(mechanism, delta)``, ``delta``)-differential privacy under adding or removing one
    patient, provided that each patient enters each step independently with probability ``sampling_rate``, moves the
    sum by at most the clipping norm, and that the noise has ``noise_multiplier`` times that norm as its standard
    deviation. With rate 1 it is the plain Gaussian mechanism.

    Raises:
        ValueError: a field is out of bounds.
    """

    noise_multiplier: float
    sampling_rate: float
    num_steps: int

    def __post_init__(self) -> None:
        if not 0 < self.noise_multiplier < math.inf:
            raise ValueError(f"Expected noise_multiplier={self.noise_multiplier} > 0 and finite.")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"Expected sampling_rate={self.sampling_rate} in (0, 1].")
        if self.num_steps < 1:
            raise ValueError(f"Expected num_steps={self.num_steps} >= 1.")


def epsilon(mechanisms: Mechanism | Sequence[Mechanism], delta: float) -> float:
    """Return the epsilon of record at ``delta``: never below the true one, and within 0.1 % of it for one mechanism.

    All steps at rate 1 are together one Gaussian mechanism whose noise multiplier ``s`` has ``1 / s^2`` equal to the
    sum over their own, priced by its closed form (Balle & Wang 2018, Theorem 8). Below rate 1 the privacy loss is
    discretised pessimistically and composed by Fourier transform (Doroshenko et al. 2022). Infinite where the noise
    is too small for any guarantee at this ``delta``.

    Args:
        mechanisms: one, or several in sequence on cohorts that may all hold the same patient; none costs nothing.
        delta: in (0, 1).

    Raises:
        ValueError: ``delta`` is not in (0, 1).
    """
    _require_delta(delta)
    parts = (mechanisms,) if isinstance(mechanisms, Mechanism) else tuple(mechanisms)
    return _epsilon_of_record(_merged(parts), delta) if parts else 0.0


def epsilon_rdp(mechanisms: Mechanism | Sequence[Mechanism], delta: float) -> float:
    """Return a looser upper bound by Renyi differential privacy (Mironov et al. 2019), as a sanity check.

    Raises:
        ValueError: ``delta`` is not in (0, 1).
    """
    _require_delta(delta)
    # Fractional orders need a series that often fails to converge, with a warning each.
    accountant = RdpAccountant(orders=_RDP_ORDERS)
    for mechanism in (mechanisms,) if isinstance(mechanisms, Mechanism) else mechanisms:
        event = dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(mechanism.sampling_rate, event), mechanism.num_steps)
    return float(accountant.get_epsilon(delta))


def epsilon_prv(mechanisms: Mechanism | Sequence[Mechanism], delta: float) -> float:
    """Return Opacus' upper bound by privacy-loss random variables (Gopi et al. 2021), a second way to ``epsilon``.

    It lies up to 0.01 above the true value, and overflows to infinity or NaN for epsilons of several hundred.

    Raises:
        ValueError: ``delta`` is not in (0, 1).
    """
    _require_delta(delta)
    parts = (mechanisms,) if isinstance(mechanisms, Mechanism) else tuple(mechanisms)
    return _epsilon_prv(_merged(parts), delta) if parts else 0.0


@lru_cache(maxsize=256)
def _epsilon_prv(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    accountant = PRVAccountant()
    accountant.history = [(part.noise_multiplier, part.sampling_rate, part.num_steps) for part in mechanisms]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Its start value comes from an RDP bound that warns when the best order lies at the end of the range.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        return float(accountant.get_epsilon(delta))


def cross_check(mechanism: Mechanism, delta: float) -> None:
    """Compare ``epsilon`` with Opacus' independent accountant and with the bound by Renyi differential privacy.

    Raises:
        PrivacyError: Opacus' accountant differs by more than ``tolerance``, or overflowed; or the Renyi bound, which
            can only be looser, lies below.
        ValueError: ``delta`` is not in (0, 1).
    """
    of_record, second, upper = epsilon(mechanism, delta), epsilon_prv(mechanism, delta), epsilon_rdp(mechanism, delta)
    # Written so that NaN fails.
    if not abs(second - of_record) <= tolerance(of_record):
        raise PrivacyError(
            f"Expected two accountants to agree on epsilon={of_record:.4f} within {tolerance(of_record):.4f}, got "
            f"{second:.4f}."
        )
    if not of_record <= upper:
        raise PrivacyError(f"Expected epsilon={of_record:.4f} <= {upper:.4f}, the bound by Renyi differential privacy.")


def tolerance(of_record: float) -> float:
    """Return by how much the second accountant may differ from the epsilon of record."""
    return 0.02 + 0.002 * of_record


@lru_cache(maxsize=256)
def calibrate_noise(target_epsilon: float, *, delta: float, sampling_rate: float, num_steps: int) -> float:
    """Return the smallest noise multiplier of four significant digits whose epsilon is at most ``target_epsilon``.

    Raises:
        ValueError: an argument is out of bounds.
    """
    _require_delta(delta)
    if not 0 < target_epsilon < math.inf:
        raise ValueError(f"Expected target_epsilon={target_epsilon} > 0 and finite.")
    plain = dp_accounting.get_sigma_gaussian(target_epsilon, delta) * math.sqrt(num_steps)

    def meets(index: int, grid_factor: int = 1) -> bool:
        mechanism = Mechanism(noise_multiplier=_multiplier_at(index), sampling_rate=sampling_rate, num_steps=num_steps)
        if grid_factor == 1 or sampling_rate > _NEARLY_ALL:
            return epsilon(mechanism, delta) <= target_epsilon
        return _epsilon_pld((mechanism,), delta, grid_factor=grid_factor) <= target_epsilon

    # A coarser grid prices some ten times faster, and a little too high: it finds the neighbourhood.
    coarse = _first_true(lambda index: meets(index, 4), start=_index_of(plain), step=2000)
    return _multiplier_at(_first_true(meets, start=coarse, step=1))


def evaluation_noise(evaluation: EvaluationConfig) -> float:
    """Return the noise multiplier of the one release of score histograms of l2 sensitivity 1."""
    return calibrate_noise(evaluation.target_epsilon, delta=evaluation.delta, sampling_rate=1.0, num_steps=1)


def declared_size(num_patients: int, rounding: int) -> int:
    """Return the cohort size that a site declares: ``num_patients`` rounded down to a multiple of ``rounding``.

    Raises:
        PrivacyError: fewer patients than ``rounding``, so that the size would be declared as 0.
        ValueError: ``rounding`` is not positive.
    """
    if rounding < 1:
        raise ValueError(f"Expected rounding={rounding} >= 1.")
    if num_patients < rounding:
        raise PrivacyError(f"Expected num_patients={num_patients} >= cohort_rounding={rounding}.")
    return num_patients - num_patients % rounding


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """Sampling, clipping, noise and price of one site's training, made together so that they cannot disagree.

    All fields are public: none depends on a patient, and the cohort's size stands here as declared.

    Raises:
        PrivacyError: ``delta`` is not below 1 / ``num_patients_declared``, so that it would allow publishing a patient.
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
        _require_delta(self.delta)
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
        """Return the plan whose ``num_rounds`` rounds keep the promise of ``privacy`` with the least noise.

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

    def epsilon_after(self, num_rounds: int) -> float:
        """Return what ``num_rounds`` rounds together have spent at ``delta``; 0 before the first.

        Epsilons of rounds do not add up: 20 rounds cost less than 20 times one, and far more than one.

        Raises:
            ValueError: ``num_rounds`` is negative.
        """
        if num_rounds < 0:
            raise ValueError(f"Expected num_rounds={num_rounds} >= 0.")
        return epsilon(self.mechanism(num_rounds), self.delta) if num_rounds else 0.0


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"Expected delta={delta} in (0, 1).")


def _merged(mechanisms: tuple[Mechanism, ...]) -> tuple[Mechanism, ...]:
    """Return an equal composition of few parts: one whole-cohort step at most, and one part per kind of sampled step.

    The order of ``mechanisms`` does not matter to the result.
    """
    # Sorted, so that the same steps in another order give the same floating-point sum.
    whole = sorted(m.num_steps / m.noise_multiplier**2 for m in mechanisms if m.sampling_rate > _NEARLY_ALL)
    merged = []
    if whole:
        merged.append(Mechanism(noise_multiplier=1 / math.sqrt(math.fsum(whole)), sampling_rate=1, num_steps=1))
    steps: dict[tuple[float, float], int] = {}
    for mechanism in mechanisms:
        if mechanism.sampling_rate <= _NEARLY_ALL:
            kind = (mechanism.noise_multiplier, mechanism.sampling_rate)
            steps[kind] = steps.get(kind, 0) + mechanism.num_steps
    merged += [
        Mechanism(noise_multiplier=noise, sampling_rate=rate, num_steps=count)
        for (noise, rate), count in sorted(steps.items())
    ]
    return tuple(merged)


@lru_cache(maxsize=1024)
def _epsilon_of_record(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    # Sampling never costs more than taking everyone, and the discretisation breaks down just below rate 1.
    whole = _epsilon_gaussian(mechanisms, delta)
    if all(mechanism.sampling_rate > _NEARLY_ALL for mechanism in mechanisms):
        return whole
    return min(whole, _epsilon_pld(mechanisms, delta, grid_factor=1))


def _epsilon_gaussian(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    """Return the price of the same steps with every patient in every step."""
    precision = math.fsum(mechanism.num_steps / mechanism.noise_multiplier**2 for mechanism in mechanisms)
    found = float(dp_accounting.get_epsilon_gaussian(1 / math.sqrt(precision), delta))
    return found + _ROOT_TOLERANCE if found > 0 else 0.0


def _epsilon_pld(mechanisms: tuple[Mechanism, ...], delta: float, *, grid_factor: int) -> float:
    interval = grid_factor * min(_grid_interval(mechanism) for mechanism in mechanisms)
    distributions = [
        privacy_loss_distribution.from_gaussian_mechanism(
            mechanism.noise_multiplier,
            pessimistic_estimate=True,
            value_discretization_interval=interval,
            sampling_prob=mechanism.sampling_rate,
        ).self_compose(mechanism.num_steps)
        for mechanism in mechanisms
    ]
    composed = functools.reduce(lambda left, right: left.compose(right), distributions)
    return float(composed.get_epsilon_for_delta(delta))


def _grid_interval(mechanism: Mechanism) -> float:
    """Return the step of the privacy-loss grid: 2 % of one step's typical loss, on at most some 10^5 points.

    A fixed step would be too coarse for the small losses of strong noise and too fine for the large ones of weak noise.
    """
    typical_loss = min(1.0, mechanism.sampling_rate / mechanism.noise_multiplier)
    largest_loss = 1 / mechanism.noise_multiplier**2
    return max(2e-2 * typical_loss, 5e-5 * largest_loss)


_SMALLEST_MANTISSA = 1000
_PER_DECADE = 9 * _SMALLEST_MANTISSA


def _multiplier_at(index: int) -> float:
    """Return the ``index``-th number of four significant digits; index 0 is 1.000, growing with the index."""
    exponent, position = divmod(index, _PER_DECADE)
    return float(f"{_SMALLEST_MANTISSA + position}e{exponent - 3}")


def _index_of(multiplier: float) -> int:
    exponent = math.floor(math.log10(multiplier))
    mantissa = math.floor(multiplier / 10.0**exponent * _SMALLEST_MANTISSA)
    return exponent * _PER_DECADE + mantissa - _SMALLEST_MANTISSA


def _first_true(predicate: Callable[[int], bool], *, start: int, step: int) -> int:
    """Return the smallest index at which the monotone ``predicate`` holds, searching outwards from ``start``."""
    low = high = start
    while not predicate(high):
        low, high, step = high, high + step, 2 * step
    while low == high or predicate(low):
        low, high, step = low - step, low, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if predicate(middle) else (middle, high)
    return high
