"""How long a site needs to make a privacy plan, and to check it by a second accountant."""

import dataclasses
import statistics
from collections.abc import Iterator
from functools import partial

from shared_model.privacy import accounting, cross_check, noise_calibration
from simulations.benchmarks.synthetic_cohort import cohort_config, cohort_plan
from simulations.benchmarks.timing import interleaved

_TARGET_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanTimes:
    """Seconds to make one plan, with nothing cached, and to check it."""

    sampling_rate: float
    num_steps: int
    noise_multiplier: float
    calibrate_seconds: float
    cross_check_seconds: float
    target_seconds: float


def measure_plans(num_patients: int, num_repeats: int) -> Iterator[PlanTimes]:
    """Time the plan of the preset, of whole-cohort steps, and one of many Poisson samples."""
    for overrides in ((), ("training.sampling_rate=0.1", "training.local_steps=10")):
        config = cohort_config(*overrides)
        plan = cohort_plan(config, num_patients)
        mechanism = plan.mechanism(plan.num_rounds)
        seconds = interleaved(
            {
                "calibrate": partial(cohort_plan, config, num_patients),
                "cross-check": partial(cross_check.cross_check, mechanism, plan.delta),
            },
            num_repeats=num_repeats,
            before_each=_clear_caches,
        )
        yield PlanTimes(
            sampling_rate=mechanism.sampling_rate,
            num_steps=mechanism.num_steps,
            noise_multiplier=mechanism.noise_multiplier,
            calibrate_seconds=statistics.median(seconds["calibrate"]),
            cross_check_seconds=statistics.median(seconds["cross-check"]),
            target_seconds=_TARGET_SECONDS,
        )


def _clear_caches() -> None:
    """Empty every cache of the accounting, so that each plan is calibrated as at a site's first request."""
    for module in (accounting, cross_check, noise_calibration):
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()
