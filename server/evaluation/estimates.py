"""Estimates: every metric of the final network with its interval, by lesion, breast and patient, and for every group.

Together they are the section ``evidence`` of the results. The interval says how far the estimate would move with other
patients of the same kind: patients are drawn with replacement, all lesions of a patient together (bootstrap).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from server.evaluation.predictions import Predictions
from server.evaluation.worst_lesion import score_by_worst_lesion
from server.results.estimate import Estimate
from server.results.evidence import Evidence, GroupResult, Level, LevelResult
from shared_model.metrics import delong
from shared_model.metrics.bootstrap import RocBand, bootstrap_intervals, bootstrap_roc_band
from shared_model.metrics.calibration import brier_score, expected_calibration_error
from shared_model.metrics.confusion import (
    ConfusionCounts,
    StackedCalls,
    metric_at_threshold,
    sensitivity_at,
    specificity_at,
)
from shared_model.metrics.counts import ClassCounts, FloatArray, IntArray, Metric
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.metrics.ranking import (
    average_precision,
    partial_auroc,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from shared_model.metrics.roc import auroc_from_counts
from shared_model.system.seeding import numpy_generator

ESTIMATE_LABELS: Mapping[str, str] = {
    "auroc": "AUC",
    "partial_auroc": "partial AUC, specificity above 0.9",
    "average_precision": "average precision (AUPRC)",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "ppv": "PPV in the test set",
    "npv": "NPV in the test set",
    "ppv_at_prevalence": "PPV at the stated prevalence",
    "npv_at_prevalence": "NPV at the stated prevalence",
    "sensitivity_at_specificity": "sensitivity at specificity 0.9",
    "specificity_at_sensitivity": "specificity at sensitivity 0.9",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}
"""Name of every metric to what a reader calls it, in the order in which they are shown."""
GROUP_ATTRIBUTES = ("site", "breast_density", "view", "abnormality_type", "subtlety", "pathology")
"""Attributes by which lesions are grouped."""
SMALL_GROUP_PATIENTS = 30
"""A group of fewer patients is marked as small."""
_TARGET_RATE = 0.9
"""The specificity (or sensitivity) at which sensitivity (or specificity) is stated without the frozen threshold."""
_NEED_EXACT_SCORES = {"brier", "calibration_error"}
"""Not to be had from a histogram: a bin keeps the order of scores, and calls, but not the scores themselves."""


@dataclass(frozen=True, kw_only=True)
class EstimateSettings:
    """What the estimates depend on besides the lesions."""

    threshold: float | None
    """Frozen on other patients. Without one there are no estimates that need it, such as sensitivity."""
    prevalence: float
    """Share of malignant cases for which predictive values are also stated, in (0, 1)."""
    num_resamples: int
    """Of the bootstrap."""
    seed: int


def estimate_from_predictions(predictions: Predictions, settings: EstimateSettings) -> Evidence | None:
    """Return all estimates with intervals over patients; None where the lesions are of one class."""
    if predictions.counts is None:
        return None
    units: dict[Level, IntArray | None] = {
        Level.LESION: np.arange(len(predictions.labels)),
        Level.BREAST: predictions.breasts,
        Level.PATIENT: predictions.patients,
    }
    results = (
        _estimate_level(level, predictions, unit_of_lesion, settings)
        for level, unit_of_lesion in units.items()
        if unit_of_lesion is not None
    )
    return Evidence(
        prevalence=settings.prevalence,
        levels=tuple(result for result in results if result is not None),
        groups=_estimate_groups(predictions, settings),
    )


def estimate_from_histogram(counts: ClassCounts, settings: EstimateSettings) -> Evidence | None:
    """Return estimates by lesion, without intervals, where only an exact histogram is known; None without both classes.

    A histogram does not say which lesions are of the same patient.
    """
    if not counts.has_both_classes:
        return None
    metrics = {name: metric for name, metric in _metrics(settings).items() if name not in _NEED_EXACT_SCORES}
    return Evidence(
        prevalence=settings.prevalence,
        levels=(_level_result(Level.LESION, counts, settings.threshold, _estimates(metrics, counts, {}), None),),
        groups=(),
    )


def roc_band(predictions: Predictions, num_resamples: int, seed: int) -> RocBand | None:
    """Return the 95 % band of the ROC curve over patients; None where the lesions are of one class."""
    if predictions.counts is None:
        return None
    return bootstrap_roc_band(
        predictions.labels,
        predictions.scores,
        predictions.patients,
        num_resamples=num_resamples,
        generator=numpy_generator(seed, "bootstrap", "roc"),
    )


def _estimate_level(
    level: Level, predictions: Predictions, unit_of_lesion: IntArray, settings: EstimateSettings
) -> LevelResult | None:
    units = score_by_worst_lesion(predictions.labels, predictions.scores, unit_of_lesion)
    if len(set(units.labels)) < 2:
        return None
    counts = ClassCounts.from_scores(units.labels, units.scores)
    patients, metrics = predictions.patients[units.first_rows], _metrics(settings)
    intervals = bootstrap_intervals(
        units.labels,
        units.scores,
        patients,
        metrics,
        num_resamples=settings.num_resamples,
        generator=numpy_generator(settings.seed, "bootstrap", level),
    )
    delong_interval = _delong_interval(units.labels, units.scores, patients)
    return _level_result(level, counts, settings.threshold, _estimates(metrics, counts, intervals), delong_interval)


def _level_result(
    level: Level,
    counts: ClassCounts,
    threshold: float | None,
    estimates: tuple[Estimate, ...],
    delong_interval: ConfidenceInterval | None,
) -> LevelResult:
    calls = None if threshold is None else ConfusionCounts.from_counts(counts, threshold)
    return LevelResult(
        level=level,
        num_units=counts.num_lesions,
        num_malignant=counts.num_positives,
        auroc_interval_delong=delong_interval,
        tp=None if calls is None else calls.tp,
        fp=None if calls is None else calls.fp,
        tn=None if calls is None else calls.tn,
        fn=None if calls is None else calls.fn,
        figures=estimates,
    )


def _metrics(settings: EstimateSettings) -> dict[str, Metric]:
    metrics: dict[str, Metric] = {
        "auroc": auroc_from_counts,
        "partial_auroc": partial_auroc(1 - _TARGET_RATE),
        "average_precision": average_precision,
    }
    if settings.threshold is not None:
        metrics |= _threshold_metrics(settings.threshold, settings.prevalence)
    return metrics | {
        "sensitivity_at_specificity": sensitivity_at_specificity(_TARGET_RATE),
        "specificity_at_sensitivity": specificity_at_sensitivity(_TARGET_RATE),
        "brier": brier_score,
        "calibration_error": expected_calibration_error,
    }


def _threshold_metrics(threshold: float, prevalence: float) -> dict[str, Metric]:
    metrics: dict[str, Callable[[StackedCalls], FloatArray]] = {
        "sensitivity": lambda calls: calls.sensitivity,
        "specificity": lambda calls: calls.specificity,
        "balanced_accuracy": lambda calls: calls.balanced_accuracy,
        "f1": lambda calls: calls.f1,
        "ppv": lambda calls: calls.ppv(),
        "npv": lambda calls: calls.npv(),
        "ppv_at_prevalence": lambda calls: calls.ppv(prevalence),
        "npv_at_prevalence": lambda calls: calls.npv(prevalence),
    }
    return {name: metric_at_threshold(threshold, metric) for name, metric in metrics.items()}


def _estimate_groups(predictions: Predictions, settings: EstimateSettings) -> tuple[GroupResult, ...]:
    """Return a result for every value of every attribute that has more than one."""
    results: list[GroupResult] = []
    for attribute in (name for name in GROUP_ATTRIBUTES if name in predictions.attributes):
        value_of_lesion = np.array(predictions.attributes[attribute])
        values = sorted(set(predictions.attributes[attribute]))
        if len(values) > 1:
            results += [
                estimate_group(attribute, value, predictions.select(value_of_lesion == value), settings)
                for value in values
            ]
    return tuple(results)


def estimate_group(attribute: str, value: str, group: Predictions, settings: EstimateSettings) -> GroupResult:
    """Return what can be said of a group of lesions, also of one class: AUC, sensitivity and specificity."""
    metrics: dict[str, Metric] = {}
    if group.counts is not None:
        metrics["auroc"] = auroc_from_counts
    if settings.threshold is not None and group.labels.any():
        metrics["sensitivity"] = sensitivity_at(settings.threshold)
    if settings.threshold is not None and not group.labels.all():
        metrics["specificity"] = specificity_at(settings.threshold)
    intervals = bootstrap_intervals(
        group.labels,
        group.scores,
        group.patients,
        metrics,
        num_resamples=settings.num_resamples,
        generator=numpy_generator(settings.seed, "bootstrap", attribute, value),
    )
    num_patients = len(np.unique(group.patients))
    return GroupResult(
        attribute=attribute,
        value=value,
        num_lesions=len(group.labels),
        num_malignant=int(group.labels.sum()),
        num_patients=num_patients,
        is_small=num_patients < SMALL_GROUP_PATIENTS,
        figures=_estimates(metrics, ClassCounts.from_scores(group.labels, group.scores), intervals),
    )


def _estimates(
    metrics: Mapping[str, Metric], counts: ClassCounts, intervals: Mapping[str, ConfidenceInterval | None]
) -> tuple[Estimate, ...]:
    values = {name: metric(counts) for name, metric in metrics.items()}
    return tuple(
        Estimate(name=name, value=value, interval=None if value is None else intervals.get(name))
        for name, value in values.items()
    )


def _delong_interval(labels: IntArray, scores: FloatArray, patients: IntArray) -> ConfidenceInterval | None:
    """Return the interval in closed form; None with fewer than two patients of a class, where there is no variance."""
    if min(len(set(patients[labels == 1])), len(set(patients[labels == 0]))) < 2:
        return None
    return delong.aurocs(labels, [scores], patients).interval()
