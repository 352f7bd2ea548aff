"""Noise calibration: the least noise that keeps a promised epsilon.

For example, epsilon 8 at delta 1e-4 over 20 steps with all patients takes a noise multiplier of 2.429. All results are
rounded up to four significant digits, so that the promise is kept.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import dp_accounting

from shared_model.config.server_sections import EvaluationConfig
from shared_model.privacy.accounting import coarse_epsilon, epsilon
from shared_model.privacy.mechanism import Mechanism, require_delta

_SMALLEST_MANTISSA = 1000
_PER_DECADE = 9 * _SMALLEST_MANTISSA


@lru_cache(maxsize=256)
def calibrate_noise(
    target_epsilon: float, *, delta: float, sampling_rate: float, num_steps: int, beside: tuple[Mechanism, ...] = ()
) -> float:
    """Return the smallest noise multiplier of four significant digits whose epsilon is at most ``target_epsilon``.

    Args:
        target_epsilon: of all steps, and of what is released ``beside`` them, together.
        delta: at which it holds.
        sampling_rate: of each step.
        num_steps: how many there are.
        beside: other releases about the same patients, which cost less than the target.

    Raises:
        ValueError: an argument is out of bounds.
    """
    require_delta(delta)
    if not 0 < target_epsilon < math.inf:
        raise ValueError(f"Expected target_epsilon={target_epsilon} > 0 and finite.")
    plain = dp_accounting.get_sigma_gaussian(target_epsilon, delta) * math.sqrt(num_steps)

    def meets(index: int, price: Callable[[Sequence[Mechanism], float], float]) -> bool:
        steps = Mechanism(noise_multiplier=_multiplier_at(index), sampling_rate=sampling_rate, num_steps=num_steps)
        return price((*beside, steps), delta) <= target_epsilon

    # The coarse price is a little too high: it finds the neighbourhood.
    coarse = _first_true(lambda index: meets(index, coarse_epsilon), start=_index_of(plain), step=2000)
    return _multiplier_at(_first_true(lambda index: meets(index, epsilon), start=coarse, step=1))


@lru_cache(maxsize=256)
def noise_of_share(share: float, target_epsilon: float, *, delta: float) -> float:
    """Return the noise multiplier of one release that takes ``share`` of a budget.

    Shares are of 1 / noise^2, which adds up where epsilon does not: two releases of half the budget each cost all of
    it, while two of half the epsilon cost less.

    Args:
        share: in (0, 1].
        target_epsilon: the whole budget.
        delta: at which it holds.

    Raises:
        ValueError: an argument is out of bounds.
    """
    if not 0 < share <= 1:
        raise ValueError(f"Expected share={share} in (0, 1].")
    whole = calibrate_noise(target_epsilon, delta=delta, sampling_rate=1.0, num_steps=1)
    return _multiplier_at(_index_of(whole / math.sqrt(share)) + 1)


def evaluation_noise(evaluation: EvaluationConfig) -> float:
    """Return the noise multiplier of the one release of score histograms of l2 sensitivity 1."""
    return calibrate_noise(evaluation.target_epsilon, delta=evaluation.delta, sampling_rate=1.0, num_steps=1)


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
