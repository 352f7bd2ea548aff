"""The price of Gaussian noise by the closed form, for tests: a way that shares no code with the accountant."""

import math

from scipy.optimize import brentq
from scipy.stats import norm


def gaussian_epsilon(num_steps: int, noise_multiplier: float, delta: float) -> float:
    """Return the epsilon of whole-cohort steps at ``delta``: Balle & Wang 2018, Theorem 8, inverted."""
    separation = math.sqrt(num_steps) / noise_multiplier

    def excess(epsilon: float) -> float:
        half, ratio = separation / 2, epsilon / separation
        return float(norm.cdf(half - ratio) - math.exp(epsilon) * norm.cdf(-half - ratio) - delta)

    return float(brentq(excess, 0, 100, xtol=1e-13))
