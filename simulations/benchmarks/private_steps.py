"""What privacy costs in time: private steps, plans and ledger entries, measured in one run.

Whatever is compared is measured in turns, so that a machine that slows down slows all of it; the figures are medians.
"""

import dataclasses

import torch

from simulations.benchmarks.ledger_times import LedgerTimes, measure_ledgers
from simulations.benchmarks.plan_times import PlanTimes, measure_plans
from simulations.benchmarks.step_times import Throughput, measure_encoder, measure_heads, measure_large_encoder
from simulations.benchmarks.synthetic_cohort import synthetic_cohort

_LARGE_SHARE, _FEWEST = 10, 10
"""The large network sees a tenth of the cohort, whose steps would take minutes, and what a site needs at least."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyBenchmark:
    """What ``fedmammo benchmark privacy`` measures."""

    num_patients: int
    num_lesions: int
    image_size: int
    num_repeats: int
    num_threads: int
    torch_version: str
    throughput: tuple[Throughput, ...]
    calibration: tuple[PlanTimes, ...]
    ledger: tuple[LedgerTimes, ...]


def measure_privacy(*, num_patients: int, image_size: int, num_repeats: int) -> PrivacyBenchmark:
    """Measure everything that ``PrivacyBenchmark`` holds.

    Args:
        num_patients: at least 10, the smallest cohort that a site declares.
        image_size: side in pixels of the images of the network that trains from scratch, at least 32.
        num_repeats: at least 1.
    """
    return PrivacyBenchmark(
        num_patients=num_patients,
        num_lesions=len(synthetic_cohort(num_patients, shape=(1,), clinical_width=1)),
        image_size=image_size,
        num_repeats=num_repeats,
        num_threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        throughput=(
            *measure_heads(num_patients, num_repeats),
            *measure_encoder(num_patients, image_size, num_repeats),
            *measure_large_encoder(max(_FEWEST, num_patients // _LARGE_SHARE), image_size, num_repeats),
        ),
        calibration=tuple(measure_plans(num_patients, num_repeats)),
        ledger=tuple(measure_ledgers(num_patients, num_repeats)),
    )
