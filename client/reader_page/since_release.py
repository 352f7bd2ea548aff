"""What this site's readings look like since the release, beside the release's own reference: pure functions."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from client.reader_page.kept import KeptReading, Known, Verdict
from client.reading.result import Answer, Outcome
from shared_model.metrics.exact_interval import exact_interval
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.release.document import PublicReference

NUM_BINS = 10


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many, with its exact interval."""

    count: int
    total: int
    """At least 1."""

    @property
    def value(self) -> float:
        """The share."""
        return self.count / self.total

    @property
    def interval(self) -> ConfidenceInterval:
        """It holds if every one of them is another patient."""
        return exact_interval(self.count, self.total)


@dataclass(frozen=True, kw_only=True)
class ScoreBin:
    """Probabilities in ``[low, high)``; the last bin holds 1 too."""

    low: float
    high: float
    here: int
    """Patients of this site."""
    public_benign: float | None
    """Share of the release's public benign lesions; None where it has none."""
    public_malignant: float | None


@dataclass(frozen=True, kw_only=True)
class SinceRelease:
    """One release at one site. Of a patient with several readings the newest counts, so that all are of others."""

    by_outcome: Mapping[Outcome, int]
    """Readings, all of them."""
    num_patients: int
    """Whose newest reading has a probability."""
    bins: tuple[ScoreBin, ...]
    called_malignant: Share | None
    """None where nobody was read."""
    agreed: Share | None
    """Of the patients on whom a doctor's opinion was kept."""
    sensitivity: Share | None
    """At the frozen threshold, of the patients whose lesion turned out malignant."""
    specificity: Share | None


def since_release(kept: Iterable[KeptReading], digest: str, public: PublicReference | None) -> SinceRelease:
    """Count the readings that were made with one release.

    Args:
        kept: newest first.
        digest: of the release.
        public: its reference, whose scores the site's stand beside.
    """
    own = [each for each in kept if each.reading.release.digest == digest]
    answers = [(each, answer) for each, answer in _newest(own)]
    agreed = [
        each.opinions[-1].verdict is Verdict.AGREE for each in _per_patient(each for each in own if each.opinions)
    ]
    known = [(each, answer) for each, answer in _newest(each for each in own if each.pathology is not None)]
    malignant = [answer.is_above_threshold for each, answer in known if each.pathology is Known.MALIGNANT]
    benign = [not answer.is_above_threshold for each, answer in known if each.pathology is Known.BENIGN]
    return SinceRelease(
        by_outcome=Counter(each.reading.outcome for each in own),
        num_patients=len(answers),
        bins=_bins([answer.probability for _, answer in answers], public),
        called_malignant=_share([answer.is_above_threshold for _, answer in answers]),
        agreed=_share(agreed),
        sensitivity=_share(malignant),
        specificity=_share(benign),
    )


def _per_patient(kept: Iterable[KeptReading]) -> list[KeptReading]:
    first: dict[str, KeptReading] = {}
    for each in kept:
        first.setdefault(each.patient, each)
    return list(first.values())


def _newest(kept: Iterable[KeptReading]) -> list[tuple[KeptReading, Answer]]:
    read = _per_patient(each for each in kept if each.reading.answer is not None)
    return [(each, each.reading.answer) for each in read if each.reading.answer is not None]


def _share(hits: Sequence[bool]) -> Share | None:
    return Share(count=sum(hits), total=len(hits)) if hits else None


def _bins(scores: Sequence[float], public: PublicReference | None) -> tuple[ScoreBin, ...]:
    abstention = None if public is None else public.abstention
    here = _counts(scores)
    benign = None if abstention is None else _counts(abstention.benign_scores) / len(abstention.benign_scores)
    malignant = None if abstention is None else _counts(abstention.malignant_scores) / len(abstention.malignant_scores)
    return tuple(
        ScoreBin(
            low=number / NUM_BINS,
            high=(number + 1) / NUM_BINS,
            here=int(here[number]),
            public_benign=None if benign is None else float(benign[number]),
            public_malignant=None if malignant is None else float(malignant[number]),
        )
        for number in range(NUM_BINS)
    )


def _counts(scores: Sequence[float]) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    counts, _ = np.histogram(scores, bins=NUM_BINS, range=(0, 1))
    return counts.astype(np.float64)
