"""Real numbers as whole steps modulo 2^32, and why rounding shares of Gaussian noise costs no privacy.

Site ``i`` of ``N`` adds its share ``g_i`` of noise, N(0, s^2), to its value ``x_i`` and rounds once, all in steps:
``k_i = rint(x_i + g_i)``. The probability of ``k_i = k`` is the density at ``k`` of ``x_i + g_i + u_i``, ``u_i`` uniform
on (-1/2, 1/2). ``K`` is the sum of the ``k_i``; ``X`` of the ``x_i``; ``G`` of the ``g_i``; ``V`` of ``N - 1``
independent uniforms; and ``Q = rint(X + G + V)``. ``Q`` is post-processing of the plain Gaussian mechanism N(X, N s^2),
so it has that mechanism's price. ``aliasing_bound`` bounds the total variation between ``K`` and ``Q``.

Price. If ``K'`` is ``K`` for a neighbour and ``b`` the bound, then for every epsilon the hockey-stick divergence of
``K`` from ``K'`` is at most that of the plain Gaussian mechanism plus (1 + e^epsilon) b.

Derivation of the bound. Write ``a(w) = exp(-s^2 w^2 / 2)``. By Poisson summation the characteristic functions at ``t``
in (-pi, pi) are sums of products of ``N`` factors, none larger in absolute value than ``a(t + 2 pi m_i)``: that of
``K`` over all tuples of whole numbers ``(m_1, ..., m_N)``, that of ``Q``, with the same products, over those whose
entries are equal. In every other tuple the first entry differs from the j-th, for one of ``N - 1`` choices of ``j``.
The other ``N - 2`` factors add up to at most ``A = sum_m a(2 pi m) <= 1 + 2 r / (1 - r)`` each,
``r = exp(-2 pi^2 s^2)``. With ``d = m_1 - m_j`` and ``e = m_1 + m_j``, the two factors are
``exp(-pi^2 s^2 d^2) exp(-s^2 (t + pi e)^2)``; for every ``d`` the ``e`` of its parity unfold the integral over ``t`` to
the real line, which gives ``sqrt(pi) / s``. So no probability of ``K`` differs from that of ``Q`` by more than, with
``p = exp(-pi^2 s^2)``,

    S = (N - 1) A^(N - 2) p / ((1 - p) sqrt(pi) s).

Both lie within ``R = N / 2 + pi s^2 sqrt(2 N)`` of ``X`` but for a probability of at most ``p``: rounding moves a sum
by ``N / 2`` at most, and P(|G| > t) <= exp(-t^2 / (2 N s^2)). At most ``2 R + 1`` whole numbers lie there. So the total
variation in one coordinate is at most ``(R + 1/2) S + p``, and in ``D`` coordinates ``D`` times that.

Compare Kairouz et al. 2021, Theorem 1, for sums of discrete Gaussians: a term of the same kind. There values are
rounded before noise is added, which enlarges the l2 sensitivity; here the one rounding comes last, and it stays.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

FEWEST_STEPS = 16
"""Standard deviation of a share of noise, in steps, at the least: the bound is then below 10^-1000."""
_MODULUS = 2.0**32
_LARGEST_SUM = 2.0**30
"""Steps; signed 32 bits hold 2^31 of them, and one bit is kept for rounding and noise."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The whole multiples of ``step``, modulo 2^32 of them.

    Raises:
        ValueError: ``step`` is no power of two that float64 holds in full precision.
    """

    step: float

    def __post_init__(self) -> None:
        is_normal = np.finfo(np.float64).tiny <= self.step < math.inf
        if not is_normal or math.frexp(self.step)[0] != 0.5:
            raise ValueError(f"Expected step={self.step} to be a positive power of two.")

    @classmethod
    def covering(cls, largest: float) -> Self:
        """Return the finest grid on which sums up to ``largest`` in absolute value take 2^30 steps at most.

        Raises:
            ValueError: ``largest`` is not positive and finite, or too small for a step.
        """
        if not 0 < largest < math.inf:
            raise ValueError(f"Expected largest={largest} > 0 and finite.")
        fraction, exponent = math.frexp(largest / _LARGEST_SUM)
        return cls(step=math.ldexp(1.0, exponent - 1 if fraction == 0.5 else exponent))

    def to_grid(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint32]:
        """Return ``values`` ``(D,)`` in steps modulo 2^32, rounded to the nearest, ties to even.

        Raises:
            ValueError: ``values`` is no vector of finite float64.
        """
        if values.ndim != 1 or values.dtype != np.float64 or not np.isfinite(values).all():
            raise ValueError(f"Expected a vector of finite float64, got shape={values.shape}, dtype={values.dtype}.")
        # The remainder is exact, and dividing it cannot overflow.
        steps = np.rint(np.fmod(values, _MODULUS * self.step) / self.step)
        return (steps.astype(np.int64) % np.int64(_MODULUS)).astype(np.uint32)

    def from_grid(self, steps: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
        """Return ``steps`` ``(D,)`` as numbers in [-2^31, 2^31) steps.

        Raises:
            ValueError: ``steps`` is no vector of uint32.
        """
        if steps.ndim != 1 or steps.dtype != np.uint32:
            raise ValueError(f"Expected a vector of uint32, got shape={steps.shape}, dtype={steps.dtype}.")
        return steps.astype(np.int32).astype(np.float64) * self.step


def require_fine(step: float, share_std: float) -> None:
    """Check that a share of noise is wide enough for the price of ``aliasing_bound`` to be nil.

    Raises:
        ValueError: ``share_std`` is below 16 steps.
    """
    if not share_std >= FEWEST_STEPS * step:
        raise ValueError(
            f"Expected share_std={share_std} >= {FEWEST_STEPS} * step={step}: add more noise or take a finer grid."
        )


def aliasing_bound(std_steps: float, num_shares: int, num_values: int) -> float:
    """Return a bound, at most 1, of the total variation that rounding costs; 0.0 where float64 holds no such number.

    The derivation stands at the top of this module.

    Args:
        std_steps: standard deviation of one share of noise, in steps.
        num_shares: sites in the sum whose noise the observer does not know.
        num_values: coordinates.

    Raises:
        ValueError: an argument is out of bounds.
    """
    return 10 ** min(0.0, log10_aliasing(std_steps, num_shares, num_values))


def log10_aliasing(std_steps: float, num_shares: int, num_values: int) -> float:
    """Return the decimal logarithm of the bound before it is cut at 1; -infinity for one share, which is exact.

    Raises:
        ValueError: an argument is out of bounds.
    """
    if not (0 < std_steps < math.inf and num_shares >= 1 and num_values >= 1):
        raise ValueError(
            f"Expected std_steps={std_steps} > 0, num_shares={num_shares} >= 1 and num_values={num_values} >= 1."
        )
    if num_shares == 1:
        return -math.inf
    log_p = -((math.pi * std_steps) ** 2)
    p, r = math.exp(log_p), math.exp(2 * log_p)
    log_largest = (  # S / p
        math.log(num_shares - 1)
        + (num_shares - 2) * math.log1p(2 * r / (1 - r))
        - math.log1p(-p)
        - math.log(math.sqrt(math.pi) * std_steps)
    )
    radius = num_shares / 2 + math.pi * std_steps**2 * math.sqrt(2 * num_shares)
    log_one = log_p + np.logaddexp(math.log(radius + 0.5) + log_largest, 0.0)
    return float(math.log(num_values) + log_one) / math.log(10)
