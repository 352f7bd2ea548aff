"""Confidence intervals as values; ``bootstrap`` and ``delong`` compute them."""

import math
from dataclasses import dataclass

CONFIDENCE_LEVEL = 0.95
"""Nominal coverage of every interval and band."""


@dataclass(frozen=True, kw_only=True)
class ConfidenceInterval:
    """A confidence interval ``[low, high]``."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf:
            raise ValueError(f"Expected finite low={self.low} <= high={self.high}.")
