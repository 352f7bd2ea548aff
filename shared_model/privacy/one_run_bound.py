"""What the right guesses of an audit in one training run prove about epsilon (Steinke, Nasr and Jagielski 2023).

Each of some invented patients, the canaries, takes part or not by a fair coin of her own. An auditor sees what one run
released, guesses for some canaries whether they took part, and abstains on the others. Under differential privacy the
number of right guesses is hardly larger than if each was right with probability e^epsilon / (1 + e^epsilon).
"""

import math
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from annotated_types import Ge, Interval
from scipy.stats import binom

from shared_model.config.bounds import Count, Delta, NotNegative, Positive
from shared_model.errors import ConfigError
from shared_model.system.checked import build, checked, require
from shared_model.system.documents import from_json

MAX_EPSILON = 50.0
"""No bound is looked for beyond it."""
_STEPS = 60
_ROUNDING = 1e-6


def p_value(num_right: int, epsilon: float, delta: float, *, num_guesses: int, num_canaries: int) -> float:
    """Return an upper bound on the chance of ``num_right`` right guesses or more under (epsilon, delta)-privacy.

    With W ~ Binomial(num_guesses, e^epsilon / (1 + e^epsilon)) it is P[W >= num_right] + 2 num_canaries delta times the
    largest of P[num_right > W >= num_right - i] / i over i >= 1 (arXiv 2305.08846, the theorem for approximate
    differential privacy). It holds for any way of guessing, provided that the number of guesses was fixed before.

    Args:
        num_right: in [0, ``num_guesses``].
        epsilon: not negative.
        delta: in [0, 1].
        num_guesses: in [0, ``num_canaries``].
        num_canaries: each took part with probability one half, independently.

    Raises:
        ValueError: an argument is out of bounds.
    """
    if not 0 <= num_right <= num_guesses <= num_canaries:
        raise ValueError(f"Expected 0 <= num_right={num_right} <= {num_guesses} guesses <= {num_canaries} canaries.")
    if not (epsilon >= 0 and 0 <= delta <= 1):
        raise ValueError(f"Expected epsilon={epsilon} >= 0 and delta={delta} in [0, 1].")
    chance = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(num_right - 1, num_guesses, chance))
    fewer = np.arange(1, num_right + 1)
    below = np.cumsum(binom.pmf(num_right - fewer, num_guesses, chance))
    steepest = float((below / fewer).max()) if num_right else 0.0
    return min(1.0, tail + 2 * num_canaries * delta * steepest)


def least_epsilon(
    num_right: int, delta: float, *, num_guesses: int, num_canaries: int, confidence: float = 0.95
) -> float:
    """Return the lower confidence bound on epsilon at ``delta``, rounded down; 0 where nothing is proved.

    It is the largest epsilon, up to ``MAX_EPSILON``, that so many right guesses refute: under which ``p_value`` is at
    most 1 - ``confidence``.

    Raises:
        ValueError: an argument is out of bounds.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"Expected confidence={confidence} in (0, 1).")

    def is_refuted(epsilon: float) -> bool:
        """Return whether so many right guesses are too unlikely under ``epsilon``."""
        chance = p_value(num_right, epsilon, delta, num_guesses=num_guesses, num_canaries=num_canaries)
        return chance <= 1 - confidence

    low, high = 0.0, MAX_EPSILON
    if not is_refuted(low):
        return 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_refuted(middle) else (low, middle)
    return low


@checked(key="")
class OneRunAudit:
    """What an audit in one run counted, and what follows from the counts.

    Raises:
        ConfigError: a field is out of bounds, or ``least_epsilon`` does not follow from the counts.
    """

    claimed_epsilon: Positive
    """Of the audited plan, by the accountant of record."""
    delta: Delta
    confidence: Annotated[float, Interval(gt=0, lt=1)]
    num_canaries: Count
    num_guesses: Annotated[int, Ge(0)]
    num_right: Annotated[int, Ge(0)]
    least_epsilon: NotNegative
    """Lower confidence bound at ``delta``."""
    num_rounds: Count
    noise_multiplier: Positive
    """Of one step, as planned."""
    seed: int
    fault: str
    """The mistake that was planted, ``none`` in an audit of the mechanism as it is."""
    source: str
    """``source_fingerprint`` of the audited version."""

    def __post_init__(self) -> None:
        require(
            self.num_right <= self.num_guesses <= self.num_canaries,
            f"at most num_guesses={self.num_guesses}, and these at most num_canaries={self.num_canaries}",
            num_right=self.num_right,
        )
        follows = least_epsilon(
            self.num_right,
            self.delta,
            num_guesses=self.num_guesses,
            num_canaries=self.num_canaries,
            confidence=self.confidence,
        )
        require(
            abs(self.least_epsilon - follows) <= _ROUNDING,
            f"== {follows:.6f}, which follows from the guesses",
            least_epsilon=self.least_epsilon,
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``fedmammo attack one-run --out`` wrote.

        Raises:
            ConfigError: the file cannot be read, or says nothing that holds.
        """
        try:
            values = from_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"Expected the result of an audit in {path}: {error}") from error
        return build(cls, values, path=path.name)

    @property
    def is_violated(self) -> bool:
        """Whether the audit proves more than was claimed."""
        return self.least_epsilon > self.claimed_epsilon
