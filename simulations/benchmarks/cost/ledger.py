"""A hospital's ledger that has had many cohorts: opening it, the first request of a process, and every other."""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import Purpose, Reserved
from client.privacy.ledger_history import Limits
from client.privacy.ledger_reservation import Reservation
from client.privacy.pseudonyms import Cohort
from shared_model.config.choices import NoiseSource
from shared_model.privacy.mechanism import Mechanism
from shared_model.system.seeding import numpy_generator
from simulations.benchmarks.child_process import in_child
from simulations.benchmarks.cost.parts import CostPart
from simulations.benchmarks.cost.step import Progress, Size, Step, measured

_SHARE = 0.88
"""Of all patients who are in each cohort but the first."""
_REPLY_BYTES = 2**12
_NO_LIMIT = Limits(max_epsilon=None, max_delta=1e-5)


def measure_ledgers(
    num_patients: Sequence[int], num_cohorts: int, *, num_repeats: int, progress: Progress
) -> Iterator[Step]:
    """Yield, for each number of patients, what a process pays once, and what it pays for every round.

    Args:
        num_patients: each at least 2.
        num_cohorts: different sets of them, one release about each, at least 1.
        num_repeats: rounds whose median counts, at least 1.
        progress: called with what is measured next.
    """
    for count in num_patients:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ledger.sqlite"
            progress(f"ledger of {count} patients: {num_cohorts} cohorts")
            in_child(_write, path, count, num_cohorts)
            progress(f"ledger of {count} patients: rounds")
            yield from in_child(_play, path, count, num_cohorts, num_repeats)


def _write(path: Path, num_patients: int, num_cohorts: int) -> None:
    ledger, patients, rng = Ledger.create(path), _patients(num_patients), numpy_generator(0, "benchmark", "ledger")
    _reserve(ledger, ledger.cohort(patients), 0)
    size = max(1, int(_SHARE * num_patients))
    for number in range(1, num_cohorts):
        _reserve(ledger, ledger.cohort(patients[i] for i in rng.permutation(num_patients)[:size]), number)


def _play(path: Path, num_patients: int, num_cohorts: int, num_repeats: int) -> list[Step]:
    size = Size(part=CostPart.LEDGER, count=num_patients, unit=f"patients in {num_cohorts} cohorts")
    patients, rounds = _patients(num_patients), itertools.count(num_cohorts)
    opening = measured(size, "open and verify", partial(Ledger, path))
    ledger = Ledger(path)

    def play_round() -> None:
        granted = _reserve(ledger, ledger.cohort(patients), next(rounds))
        ledger.commit(granted, bytes(_REPLY_BYTES))

    first = measured(size, "first round of a process", play_round)
    return [opening, first, measured(size, "round", play_round, num_repeats=num_repeats)]


def _patients(count: int) -> list[str]:
    return [f"P{number:07d}" for number in range(count)]


def _reserve(ledger: Ledger, cohort: Cohort, number: int) -> Reservation:
    release = Reserved(
        purpose=Purpose.TRAINING,
        run="benchmark",
        server_round=number,
        request=str(number),
        cohort=cohort.fingerprint,
        num_patients_declared=len(cohort),
        mechanism=Mechanism(noise_multiplier=1e3, sampling_rate=1.0, num_steps=1),
        delta=_NO_LIMIT.max_delta,
        target_epsilon=1e3,
        max_grad_norm=1.0,
        noise=NoiseSource.SECURE,
    )
    granted = ledger.reserve(release, cohort, _NO_LIMIT, reply_bytes=_REPLY_BYTES)
    if not isinstance(granted, Reservation):
        raise TypeError(f"Expected a new request, {number} was answered before.")
    return granted
