"""Mechanisms: what a site releases, described before it is priced.

A site's training is ``num_steps`` Gaussian mechanisms, each on a Poisson sample of its patients (or on all of them).
The unit of privacy is the patient: two cohorts are neighbours when one patient, with all lesions, is added or removed.
"""

from collections import Counter
from collections.abc import Iterable

from shared_model.config.bounds import Count, Positive, PositiveFraction
from shared_model.system.checked import checked


@checked(key="", error=ValueError)
class Mechanism:
    """The Poisson-subsampled Gaussian mechanism of l2 sensitivity 1, applied ``num_steps`` times.

    Formal guarantee: (``epsilon(mechanism, delta)``, ``delta``)-differential privacy under adding or removing one
    patient, provided that in each step each patient takes part independently with probability ``sampling_rate`` and
    changes the sum by at most the clipping norm, and that the noise has ``noise_multiplier`` times that norm as its
    standard deviation. With rate 1 it is the plain Gaussian mechanism.

    Raises:
        ValueError: a field is out of bounds.
    """

    noise_multiplier: Positive
    sampling_rate: PositiveFraction
    num_steps: Count


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
