"""What a site releases, described before it is priced: Gaussian mechanisms in sequence.

A site's training is ``num_steps`` Gaussian mechanisms, each on a Poisson sample of its patients (or on all of them).
The unit of privacy is the patient: two cohorts are neighbours when one patient, with all lesions, is added or removed.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable


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


def merge_equal_steps(mechanisms: Iterable[Mechanism]) -> tuple[Mechanism, ...]:
    """Return the same steps with equal ones counted together, in order of first appearance.

    The composition is the same, and pricing it takes time for every part.

    >>> step = Mechanism(noise_multiplier=2.0, sampling_rate=0.5, num_steps=3)
    >>> merge_equal_steps([step, step])
    (Mechanism(noise_multiplier=2.0, sampling_rate=0.5, num_steps=6),)
    """
    steps: Counter[tuple[float, float]] = Counter()
    for mechanism in mechanisms:
        steps[mechanism.noise_multiplier, mechanism.sampling_rate] += mechanism.num_steps
    return tuple(
        Mechanism(noise_multiplier=noise, sampling_rate=rate, num_steps=count) for (noise, rate), count in steps.items()
    )


def require_delta(delta: float) -> None:
    """Check that ``delta`` is a probability, neither 0 nor 1.

    Raises:
        ValueError: naming it.
    """
    if not 0 < delta < 1:
        raise ValueError(f"Expected delta={delta} in (0, 1).")
