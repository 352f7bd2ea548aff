"""How long a round's entries in the ledger take: reserving the budget, and committing the reply."""

import dataclasses
import itertools
import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import Purpose, Reserved
from client.privacy.ledger_history import Limits
from client.privacy.ledger_reservation import Reservation
from client.privacy.pseudonyms import Cohort
from shared_model.config.choices import NoiseSource
from shared_model.privacy.mechanism import Mechanism
from simulations.benchmarks.timing import interleaved

_TARGET_SECONDS = 0.02
_MANY_RELEASES = 400
_REPLY_BYTES = 2**12
"""About the update of a head on frozen features."""
_NO_LIMIT = Limits(max_epsilon=None, max_delta=1e-5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LedgerTimes:
    """Seconds that a round spends on its ledger, which lies in the system's folder for temporary files."""

    num_earlier_releases: int
    round_seconds: float
    open_seconds: float
    """Once per process: verifying the whole chain."""
    target_seconds: float
    """Of a round."""


def measure_ledgers(num_patients: int, num_repeats: int) -> Iterator[LedgerTimes]:
    """Time rounds on a young ledger and on one of a site that has trained for years."""
    for num_earlier in (0, _MANY_RELEASES):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ledger.sqlite"
            ledger, rounds = Ledger.create(path), itertools.count()
            cohort = ledger.cohort(str(patient) for patient in range(num_patients))

            def play_round(ledger: Ledger = ledger, cohort: Cohort = cohort, rounds: Iterator[int] = rounds) -> None:
                granted = ledger.reserve(_release(cohort, next(rounds)), cohort, _NO_LIMIT, reply_bytes=_REPLY_BYTES)
                if isinstance(granted, Reservation):
                    ledger.commit(granted, bytes(_REPLY_BYTES))

            for _ in range(num_earlier):
                play_round()
            seconds = interleaved({"round": play_round, "open": partial(Ledger, path)}, num_repeats=num_repeats)
        yield LedgerTimes(
            num_earlier_releases=num_earlier,
            round_seconds=statistics.median(seconds["round"]),
            open_seconds=statistics.median(seconds["open"]),
            target_seconds=_TARGET_SECONDS,
        )


def _release(cohort: Cohort, number: int) -> Reserved:
    return Reserved(
        purpose=Purpose.TRAINING,
        run="benchmark",
        server_round=number,
        request=str(number),
        cohort=cohort.fingerprint,
        num_patients_declared=len(cohort.members),
        mechanism=Mechanism(noise_multiplier=1e3, sampling_rate=1.0, num_steps=1),
        delta=_NO_LIMIT.max_delta,
        target_epsilon=1e3,
        max_grad_norm=1.0,
        noise=NoiseSource.SECURE,
    )
