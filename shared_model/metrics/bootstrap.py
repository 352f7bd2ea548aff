"""Bootstrap confidence intervals: patients are drawn again, with replacement, and the metric is computed each time.

All lesions of a drawn patient come along, because lesions of one patient are not independent. For example, if 95 % of
the resamples give an AUROC between 0.71 and 0.83, that is the interval.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, ch. 13; clusters after Field and Welsh 2007, JRSS B
69:369.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shared_model.metrics.counts import ClassCounts, FloatArray, Metric, StackedCounts, check_scores
from shared_model.metrics.intervals import CONFIDENCE_LEVEL, ConfidenceInterval
from shared_model.metrics.roc import operating_points

MAX_DRAWS = 1000
"""After so many draws of one class only, looking for a resample of both classes ends with an error."""
BAND_POINTS = 201
"""False-positive rates at which a ROC band is computed."""
MIN_DEFINED = 0.95
"""A metric gets an interval if it is defined in at least this share of the resamples."""
_VALUES_AT_ONCE = 2**17
"""Resamples times lesions that are drawn together: few enough to stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RocBand:
    """Pointwise interval of the sensitivity at given false-positive rates."""

    false_positive_rate: FloatArray
    """``(BAND_POINTS,)``, ascending from 0 to 1."""
    low: FloatArray
    """``(BAND_POINTS,)``."""
    high: FloatArray
    """``(BAND_POINTS,)``."""


def bootstrap_intervals(
    labels: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    metrics: Mapping[str, Metric],
    *,
    num_resamples: int,
    generator: np.random.Generator,
) -> dict[str, ConfidenceInterval | None]:
    """Return the percentile interval of every metric when patients are drawn again with replacement.

    All lesions of a drawn patient come along, as many times as the patient was drawn. If the lesions are of both
    classes, a resample of one class only is drawn again, for every metric. All metrics see the same resamples. The
    level is ``CONFIDENCE_LEVEL``.

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, finite.
        patients: ``(N,)``; equal entries are the same patient.
        metrics: ``auroc_from_counts``, ``sensitivity_at(threshold)`` and the like, by name.
        num_resamples: number of resamples that count, >= 1.
        generator: source of the draws.

    Returns:
        None for a metric that is undefined in more than ``1 - MIN_DEFINED`` of the resamples.

    Raises:
        ValueError: a metric needs both classes and one is missing, one is so rare that resamples miss it
            ``MAX_DRAWS`` times in a row, or the arrays do not fit together.
    """
    values: dict[str, list[FloatArray]] = {name: [] for name in metrics}
    for counts in _resample(labels, scores, patients, num_resamples=num_resamples, generator=generator):
        for name, metric in metrics.items():
            drawn = metric.of_each(counts)
            values[name].append(drawn[~np.isnan(drawn)])
    num_needed = MIN_DEFINED * num_resamples
    defined = {name: np.concatenate(blocks) for name, blocks in values.items()}
    return {name: percentile_interval(drawn) if len(drawn) >= num_needed else None for name, drawn in defined.items()}


def bootstrap_mean_interval(
    labels: ArrayLike,
    score_sets: Sequence[ArrayLike],
    patients: ArrayLike,
    metric: Metric,
    *,
    num_resamples: int,
    generator: np.random.Generator,
) -> ConfidenceInterval:
    """Return the interval of the mean of a metric over several networks that scored the same lesions.

    Every network sees the same resamples, so that the interval shows that all of them were tested on few lesions.

    Args:
        labels: ``(N,)``, 0 or 1, of both classes.
        score_sets: one ``(N,)`` per network, finite; at least one.
        patients: ``(N,)``; equal entries are the same patient.
        metric: defined wherever both classes are present.
        num_resamples: >= 1.
        generator: source of the draws.

    Raises:
        ValueError: as ``bootstrap_intervals``, or there is no network.
    """
    if not score_sets:
        raise ValueError("Expected the scores of at least one network.")
    seed = int(generator.integers(2**63))
    values = []
    for scores in score_sets:
        generator = np.random.default_rng(seed)
        resamples = _resample(labels, scores, patients, num_resamples=num_resamples, generator=generator)
        values.append(np.concatenate([metric.of_each(counts) for counts in resamples]))
    return percentile_interval(np.mean(values, axis=0))


def bootstrap_roc_band(
    labels: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    *,
    num_resamples: int,
    generator: np.random.Generator,
) -> RocBand:
    """Return the pointwise percentile band of the ROC curve over the resamples of ``bootstrap_intervals``.

    Raises:
        ValueError: one class is missing, and as ``bootstrap_intervals``.
    """
    ClassCounts.from_scores(labels, scores).require_both_classes()
    rates = np.linspace(0, 1, BAND_POINTS)
    resamples = _resample(labels, scores, patients, num_resamples=num_resamples, generator=generator)
    curves = (curve for counts in resamples for curve in zip(*operating_points(counts), strict=True))
    sensitivities = [np.interp(rates, *curve) for curve in curves]
    low, high = np.quantile(np.stack(sensitivities), _interval_levels(), axis=0)
    return RocBand(false_positive_rate=rates, low=low, high=high)


def percentile_interval(values: ArrayLike) -> ConfidenceInterval:
    """Return the interval that holds the middle ``CONFIDENCE_LEVEL`` of at least one finite value."""
    low, high = np.quantile(np.asarray(values, dtype=np.float64), _interval_levels())
    return ConfidenceInterval(low=float(low), high=float(high))


def _interval_levels() -> tuple[float, float]:
    return (1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2


def _resample(
    labels: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    *,
    num_resamples: int,
    generator: np.random.Generator,
) -> Iterator[StackedCounts]:
    """Yield the counts of resamples, many at once: scores are sorted once, and each resample weights them anew.

    The draws are those of a loop over resamples.
    """
    if num_resamples < 1:
        raise ValueError(f"Expected num_resamples={num_resamples} >= 1.")
    all_counts = ClassCounts.from_scores(labels, scores)
    distinct_scores = all_counts.scores
    if not len(distinct_scores):
        raise ValueError("Expected at least one lesion to draw from.")
    is_malignant, values = check_scores(labels, scores)
    patient_ids = np.asarray(patients)
    if patient_ids.shape != values.shape:
        raise ValueError(f"Expected patients of shape {patient_ids.shape} to be {values.shape}, one for every score.")
    order = np.argsort(values)
    first_of_ties = np.searchsorted(values[order], distinct_scores)
    malignant_in_order = is_malignant[order]
    distinct_patients, patient_numbers = np.unique(patient_ids, return_inverse=True)
    patient_in_order, num_patients = patient_numbers[order], len(distinct_patients)

    def draw(num_drawn: int) -> StackedCounts:
        drawn = generator.integers(num_patients, size=(num_drawn, num_patients))
        drawn += num_patients * np.arange(num_drawn)[:, None]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        weights = times[:, patient_in_order]
        positives = np.add.reduceat(weights * malignant_in_order, first_of_ties, axis=1)
        negatives = np.add.reduceat(weights, first_of_ties, axis=1) - positives
        return StackedCounts(scores=distinct_scores, negatives=negatives, positives=positives)

    at_once, num_missing, num_in_vain = max(1, _VALUES_AT_ONCE // len(values)), num_resamples, 0
    while num_missing:
        counts = draw(min(at_once, num_missing))
        is_kept = counts.has_both_classes | (not all_counts.has_both_classes)
        kept = np.flatnonzero(is_kept)
        # How many draws came to nothing before each one that counts, and after the last.
        in_vain = np.diff(np.concatenate(([-1 - num_in_vain], kept, [len(is_kept)]))) - 1
        if in_vain.max() >= MAX_DRAWS:
            raise ValueError(f"Expected resamples of both classes, got none in {MAX_DRAWS} draws of patients.")
        num_in_vain, num_missing = int(in_vain[-1]), num_missing - len(kept)
        if len(kept):
            yield StackedCounts(
                scores=distinct_scores, negatives=counts.negatives[kept], positives=counts.positives[kept]
            )
