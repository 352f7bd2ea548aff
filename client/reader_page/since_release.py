"""What this site's readings look like since the release, beside the release's own reference: pure functions."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from client.deployment.reader_section import RecalibrationSection
from client.reader_page.kept import KeptReading, Known, Verdict
from client.reading.result import Answer, Outcome
from shared_model.metrics.drift import Drift, drift, drift_from_mixture
from shared_model.metrics.exact_interval import exact_interval
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.metrics.recalibration import Recalibration, fit_recalibration
from shared_model.release.document import GreyContract, PublicReference

NUM_BINS = 10
P_VALUE_LIMIT = 0.01
"""Below it the page says that a distribution has moved."""
_GREY_WORDS = {
    "dark": "Dark end",
    "middle": "Middle",
    "bright": "Bright end",
    "contrast": "Tissue over surroundings",
    "white": "Share of pure white",
}


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
class Compared:
    """One number of this site's patients beside that of the release's public ones."""

    name: str
    """For a person."""
    num_here: int
    """Patients of this site."""
    num_reference: int
    """Public patients; of scores, both classes together."""
    found: Drift | None
    """None with too few on a side."""
    here: tuple[float, ...]
    """Quartiles; none without patients."""
    reference: tuple[float, ...]
    """Quartiles; none where several mixtures are compared with."""

    @property
    def has_moved(self) -> bool:
        """Whether so large a distance is unlikely by chance."""
        return self.found is not None and self.found.p_value < P_VALUE_LIMIT


@dataclass(frozen=True, kw_only=True)
class LocalFit:
    """What this site's outcomes say of the release's probabilities."""

    num_benign: int
    num_malignant: int
    fitted: Recalibration | None
    """None with too few."""


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
    known: Share | None
    """Of the patients who were read, those whose outcome is known."""
    malignant: Share | None
    """Of those, whose lesion turned out malignant."""
    num_not_shown: int
    """Readings of other versions of this program, in none of these figures."""
    scores: tuple[Compared, ...]
    """All patients, and those whose outcome is known; empty where the release has no public scores."""
    grey: tuple[Compared, ...]
    """Empty where the release has no grey levels."""
    local: LocalFit | None
    """None where the site does not recalibrate."""


def since_release(
    kept: Iterable[KeptReading],
    digest: str,
    public: PublicReference | None,
    *,
    grey: GreyContract | None = None,
    recalibration: RecalibrationSection | None = None,
    num_not_shown: int = 0,
) -> SinceRelease:
    """Count the readings that were made with one release.

    Args:
        kept: newest first.
        digest: of the release.
        public: its reference, whose scores the site's stand beside.
        grey: its grey levels.
        recalibration: after how many outcomes the site recalibrates; None for never.
        num_not_shown: readings that this version cannot show, with this release or another.
    """
    own = [each for each in kept if each.reading.release.digest == digest]
    answers = [(each, answer) for each, answer in _newest(own)]
    agreed = [
        each.opinions[-1].verdict is Verdict.AGREE for each in _per_patient(each for each in own if each.opinions)
    ]
    known = [(each, answer) for each, answer in _newest(each for each in own if each.pathology is not None)]
    with_outcome = {each.patient for each, _ in known}
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
        known=_share([each.patient in with_outcome for each, _ in answers]),
        malignant=_share([each.pathology is Known.MALIGNANT for each, _ in known]),
        num_not_shown=num_not_shown,
        scores=_compared_scores(answers, known, public),
        grey=_compared_grey(own, grey),
        local=None if recalibration is None else _local_fit(known, recalibration),
    )


def local_recalibration(
    kept: Iterable[KeptReading], digest: str, patient: str, section: RecalibrationSection | None
) -> Recalibration | None:
    """Return how this site's outcomes move the probabilities of a patient, whose own outcome has no part in it.

    Args:
        kept: newest first.
        digest: of the release: outcomes of readings with another say nothing of it.
        patient: as the kept readings name patients.
        section: of the site; None recalibrates never.

    Returns:
        None with too few outcomes.
    """
    if section is None:
        return None
    others = (
        each
        for each in kept
        if each.reading.release.digest == digest and each.patient != patient and each.pathology is not None
    )
    return _local_fit(_newest(others), section).fitted


def _local_fit(known: Sequence[tuple[KeptReading, Answer]], section: RecalibrationSection) -> LocalFit:
    labels = [int(each.pathology is Known.MALIGNANT) for each, _ in known]
    fitted = None
    if len(labels) >= section.outcomes:
        scores = [answer.probability for _, answer in known]
        fitted = fit_recalibration(labels, scores, has_slope=len(labels) >= section.outcomes_for_slope)
    return LocalFit(num_benign=len(labels) - sum(labels), num_malignant=sum(labels), fitted=fitted)


def _compared_scores(
    answers: Sequence[tuple[KeptReading, Answer]],
    known: Sequence[tuple[KeptReading, Answer]],
    public: PublicReference | None,
) -> tuple[Compared, ...]:
    abstention = None if public is None else public.abstention
    if abstention is None:
        return ()
    benign, malignant = abstention.benign_scores, abstention.malignant_scores
    all_scores = [answer.probability for _, answer in answers]
    of_benign, of_malignant = (
        [answer.probability for each, answer in known if each.pathology is wanted]
        for wanted in (Known.BENIGN, Known.MALIGNANT)
    )
    return (
        Compared(
            name="All patients",
            num_here=len(all_scores),
            num_reference=len(benign) + len(malignant),
            found=drift_from_mixture(all_scores, benign, malignant),
            here=_quartiles(all_scores),
            reference=(),
        ),
        _compared("Known benign", of_benign, benign),
        _compared("Known malignant", of_malignant, malignant),
    )


def _compared_grey(own: Sequence[KeptReading], grey: GreyContract | None) -> tuple[Compared, ...]:
    if grey is None:
        return ()
    # One picture of a patient, the first, as in the release; what a gate refused counts too.
    levels = [
        view.grey_levels
        for each in _per_patient(each for each in own if any(view.grey_levels for view in each.reading.views))
        for view in [next(view for view in each.reading.views if view.grey_levels)]
        if view.grey_levels is not None
    ]
    return tuple(
        _compared(_GREY_WORDS.get(name, name), [each[name] for each in levels if name in each], reference)
        for name, reference in grey.values.items()
    )


def _compared(name: str, here: Sequence[float], reference: Sequence[float]) -> Compared:
    return Compared(
        name=name,
        num_here=len(here),
        num_reference=len(reference),
        found=drift(here, reference),
        here=_quartiles(here),
        reference=_quartiles(reference),
    )


def _quartiles(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))) if len(values) else ()


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
