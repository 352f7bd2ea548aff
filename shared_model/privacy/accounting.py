"""The price of privacy: epsilon of a sequence of mechanisms at a given delta.

Every price errs on the private side: epsilon is never below the true one. ``cross_check`` compares it with two other
accountants; ``noise_calibration`` goes the other way, from a target epsilon to the noise that keeps it.
"""

import functools
import math
from collections.abc import Sequence
from functools import lru_cache

import dp_accounting
from dp_accounting.pld import privacy_loss_distribution

from shared_model.privacy.mechanism import Mechanism, merge_equal_steps, require_delta

_NEARLY_ALL = 1 - 1e-6
"""A sampling rate above this is priced as rate 1."""

_ROOT_TOLERANCE = 1e-9
"""Added to the closed form, whose root is found to 1e-12, so that rounding cannot put it below the true epsilon."""

_ROUNDING = 1e-12
"""More than a handful of roundings in float64 can take off."""

_MAX_POINTS = 2**19
"""Points of the grid on which a composed privacy loss is described, some seconds and 100 MB for each kind of step."""

_MAX_KINDS = 16
"""Kinds of sampled steps that are priced as such; with more of them, sampling counts for nothing."""


def epsilon(mechanisms: Mechanism | Sequence[Mechanism], delta: float) -> float:
    """Return the epsilon of record at ``delta``: never below the true one, for one mechanism at most 0.1 % above it.

    All steps at rate 1 together are one Gaussian mechanism: its ``1 / noise_multiplier^2`` is the sum of theirs, and
    its price has a closed form (Balle & Wang 2018, Theorem 8). Below rate 1 the privacy loss is
    discretised pessimistically and composed by Fourier transform (Doroshenko et al. 2022). Infinite where the noise
    is too small for any guarantee at this ``delta``.

    Several kinds of sampled steps have one grid, whose number of points is bounded. Steps of very different noise, or
    of more than ``_MAX_KINDS`` kinds, so have a price that is further above the true one, and take no longer.

    Args:
        mechanisms: one, or several in sequence on cohorts that may all hold the same patient; none costs nothing.
        delta: in (0, 1).

    Raises:
        ValueError: ``delta`` is not in (0, 1).
    """
    require_delta(delta)
    parts = (mechanisms,) if isinstance(mechanisms, Mechanism) else tuple(mechanisms)
    return _epsilon_of_record(merge(parts), delta) if parts else 0.0


def coarse_epsilon(mechanisms: Mechanism | Sequence[Mechanism], delta: float) -> float:
    """Return an upper bound that is some ten times faster to compute than ``epsilon`` and a little higher.

    The grid of the privacy loss is four times as coarse. At sampling rate 1 it is ``epsilon`` itself.

    Raises:
        ValueError: ``delta`` is not in (0, 1).
    """
    require_delta(delta)
    parts = merge((mechanisms,) if isinstance(mechanisms, Mechanism) else mechanisms)
    if all(mechanism.sampling_rate > _NEARLY_ALL for mechanism in parts):
        return epsilon(parts, delta)
    return _epsilon_pld(parts, delta, grid_factor=4)


def gaussian_mu(mechanisms: Mechanism | Sequence[Mechanism]) -> float | None:
    """Return the mu of Gaussian differential privacy, rounded up; None where a step samples its patients.

    To tell from all steps together whether a patient took part is exactly as hard as to tell one draw of N(0, 1) from
    one of N(mu, 1), at every delta at once (Dong, Roth and Su 2022). Steps on the whole cohort compose by
    mu^2 = sum of 1 / noise_multiplier^2 (their Corollary 3.3); none at all gives 0.
    """
    parts = merge((mechanisms,) if isinstance(mechanisms, Mechanism) else mechanisms)
    if any(part.sampling_rate <= _NEARLY_ALL for part in parts):
        return None
    return (1 + _ROUNDING) * math.fsum(1 / part.noise_multiplier for part in parts)


def merge(mechanisms: Sequence[Mechanism]) -> tuple[Mechanism, ...]:
    """Return an equal composition of few parts: one whole-cohort step at most, and one part per kind of sampled step.

    The order of ``mechanisms`` does not matter to the result.
    """
    # Sorted, so that the same steps in another order give the same floating-point sum.
    precisions = sorted(m.num_steps / m.noise_multiplier**2 for m in mechanisms if m.sampling_rate > _NEARLY_ALL)
    unsampled = []
    if precisions:
        noise_multiplier = 1 / math.sqrt(math.fsum(precisions))
        unsampled.append(Mechanism(noise_multiplier=noise_multiplier, sampling_rate=1, num_steps=1))
    sampled = merge_equal_steps(m for m in mechanisms if m.sampling_rate <= _NEARLY_ALL)
    return (*unsampled, *sorted(sampled, key=lambda m: (m.noise_multiplier, m.sampling_rate)))


@lru_cache(maxsize=1024)
def _epsilon_of_record(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    # Sampling never costs more than taking all patients, and the discretisation is inexact just below rate 1.
    without_sampling = _epsilon_gaussian(mechanisms, delta)
    num_sampled = sum(mechanism.sampling_rate <= _NEARLY_ALL for mechanism in mechanisms)
    if not 1 <= num_sampled <= _MAX_KINDS:
        return without_sampling
    return min(without_sampling, _epsilon_pld(mechanisms, delta, grid_factor=1))


def _epsilon_gaussian(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    """Return the price of the same steps if every patient took part in every step."""
    precision = math.fsum(mechanism.num_steps / mechanism.noise_multiplier**2 for mechanism in mechanisms)
    root = float(dp_accounting.get_epsilon_gaussian(1 / math.sqrt(precision), delta))
    return root + _ROOT_TOLERANCE if root > 0 else 0.0


def _epsilon_pld(mechanisms: tuple[Mechanism, ...], delta: float, *, grid_factor: int) -> float:
    finest = grid_factor * min(_grid_interval(mechanism) for mechanism in mechanisms)
    # A coarser grid is rounded up further: still an upper bound.
    interval = max(finest, sum(map(_loss_range, mechanisms)) / _MAX_POINTS)
    distributions = [_all_steps(mechanism, interval) for mechanism in mechanisms]
    composed = functools.reduce(lambda left, right: left.compose(right), distributions)
    return float(composed.get_epsilon_for_delta(delta))


@lru_cache(maxsize=_MAX_KINDS)
def _all_steps(mechanism: Mechanism, interval: float) -> privacy_loss_distribution.PrivacyLossDistribution:
    """Return the privacy loss of a mechanism; a site has a few of them, of which one grows with every round."""
    return _one_step(mechanism.noise_multiplier, mechanism.sampling_rate, interval).self_compose(mechanism.num_steps)


@lru_cache(maxsize=_MAX_KINDS)
def _one_step(
    noise_multiplier: float, sampling_rate: float, interval: float
) -> privacy_loss_distribution.PrivacyLossDistribution:
    return privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier,
        pessimistic_estimate=True,
        value_discretization_interval=interval,
        sampling_prob=sampling_rate,
    )


def _grid_interval(mechanism: Mechanism) -> float:
    """Return the interval of the privacy-loss grid: 2 % of one step's typical loss, on some 10^5 points at most.

    A fixed interval would be too coarse for the small losses of strong noise, and too fine for the large losses of weak
    noise.
    """
    typical_loss = min(1.0, mechanism.sampling_rate / mechanism.noise_multiplier)
    largest_loss = 1 / mechanism.noise_multiplier**2
    return max(2e-2 * typical_loss, 5e-5 * largest_loss)


def _loss_range(mechanism: Mechanism) -> float:
    """Return about how wide the composed privacy loss spreads before what is left outside has no weight: never NaN.

    One step's loss stays within ten standard deviations of the noise; its second moment is at most its chi-squared
    divergence. Nothing but the size of the grid depends on it.
    """
    rate, precision, num_steps = mechanism.sampling_rate, 1 / mechanism.noise_multiplier**2, mechanism.num_steps
    largest = 10 * math.sqrt(precision) + precision / 2
    one_step = _log1p_scaled(rate, largest) + (min(largest, -math.log1p(-rate)) if rate < 1 else largest)
    variance = min(rate**2 * math.expm1(min(precision, 700.0)), rate * (precision + precision**2 / 4))
    return min(num_steps * one_step, one_step + num_steps * variance + 16 * math.sqrt(num_steps * variance))


def _log1p_scaled(rate: float, exponent: float) -> float:
    """Return ``log(1 + rate (e^exponent - 1))``, also where the exponential overflows."""
    return math.log1p(rate * math.expm1(exponent)) if exponent < 700 else exponent + math.log(rate)
