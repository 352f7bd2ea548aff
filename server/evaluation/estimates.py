"""Test lesions to evidence: every figure with its interval, at every level and for every group."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from server.evaluation.predictions import Predictions
from server.evaluation.worst_lesion import worst_of
from server.results.evidence import Evidence, Figure, GroupResult, Level, LevelResult
from shared_model.metrics import delong
from shared_model.metrics.bootstrap import RocBand, bootstrap_intervals, bootstrap_roc_band
from shared_model.metrics.calibration import brier_score, expected_calibration_error
from shared_model.metrics.counts import (
    ClassCounts,
    ConfusionCounts,
    FloatArray,
    IntArray,
    Interval,
    Statistic,
    auroc_statistic,
    calls_statistic,
    confusion_of,
    sensitivity_statistic,
    specificity_statistic,
)
from shared_model.metrics.ranking import (
    average_precision,
    partial_auroc,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from shared_model.system.seeding import numpy_generator

FIGURES: Mapping[str, str] = {
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
"""Name of every figure to what a reader calls it, in the order in which they are shown."""
GROUPS = ("site", "breast_density", "view", "abnormality_type", "subtlety", "pathology")
"""Attributes by which lesions are grouped."""
SMALL_GROUP = 30
"""Patients below which a group is marked as small."""
_TARGET_RATE = 0.9


@dataclass(frozen=True, kw_only=True)
class Appraisal:
    """How figures are computed."""

    threshold: float | None
    """Frozen on other patients; without one there are no figures of an operating point."""
    prevalence: float
    num_resamples: int
    seed: int

    def of_predictions(self, predictions: Predictions) -> Evidence | None:
        """Return all figures with intervals over patients; None where the lesions are of one class."""
        if predictions.counts is None:
            return None
        units: dict[Level, IntArray | None] = {
            Level.LESION: np.arange(len(predictions.labels)),
            Level.BREAST: predictions.breasts,
            Level.PATIENT: predictions.patients,
        }
        levels = (
            self._level(level, predictions, of_level) for level, of_level in units.items() if of_level is not None
        )
        return Evidence(
            prevalence=self.prevalence,
            levels=tuple(level for level in levels if level is not None),
            groups=self._groups(predictions),
        )

    def of_histogram(self, counts: ClassCounts) -> Evidence | None:
        """Return the figures of lesions of which only an exact histogram is known, without intervals."""
        if not counts.has_both_classes:
            return None
        # A bin stands at its lower edge: ranks and calls are right, the scores' own values are not.
        statistics = {
            name: statistic
            for name, statistic in self._statistics().items()
            if name not in {"brier", "calibration_error"}
        }
        return Evidence(
            prevalence=self.prevalence,
            levels=(self._level_result(Level.LESION, counts, _figures(statistics, counts, {}), None),),
            groups=(),
        )

    def _level(self, level: Level, predictions: Predictions, units: IntArray) -> LevelResult | None:
        gathered = worst_of(predictions.labels, predictions.scores, units)
        if len(set(gathered.labels)) < 2:
            return None
        counts = ClassCounts.from_scores(gathered.labels, gathered.scores)
        owners, statistics = predictions.patients[gathered.members], self._statistics()
        intervals = bootstrap_intervals(
            gathered.labels,
            gathered.scores,
            owners,
            statistics,
            num_resamples=self.num_resamples,
            generator=numpy_generator(self.seed, "bootstrap", level),
        )
        closed_form = _delong_interval(gathered.labels, gathered.scores, owners)
        return self._level_result(level, counts, _figures(statistics, counts, intervals), closed_form)

    def _level_result(
        self, level: Level, counts: ClassCounts, figures: tuple[Figure, ...], closed_form: Interval | None
    ) -> LevelResult:
        calls = None if self.threshold is None else confusion_of(counts, self.threshold)
        return LevelResult(
            level=level,
            num_units=counts.num_lesions,
            num_malignant=counts.num_positives,
            auroc_interval_delong=closed_form,
            tp=None if calls is None else calls.tp,
            fp=None if calls is None else calls.fp,
            tn=None if calls is None else calls.tn,
            fn=None if calls is None else calls.fn,
            figures=figures,
        )

    def _statistics(self) -> dict[str, Statistic]:
        statistics: dict[str, Statistic] = {
            "auroc": auroc_statistic,
            "partial_auroc": partial_auroc(1 - _TARGET_RATE),
            "average_precision": average_precision,
        }
        if self.threshold is not None:
            statistics |= _operating_point(self.threshold, self.prevalence)
        return statistics | {
            "sensitivity_at_specificity": sensitivity_at_specificity(_TARGET_RATE),
            "specificity_at_sensitivity": specificity_at_sensitivity(_TARGET_RATE),
            "brier": brier_score,
            "calibration_error": expected_calibration_error,
        }

    def _groups(self, predictions: Predictions) -> tuple[GroupResult, ...]:
        found = []
        for attribute in (name for name in GROUPS if name in predictions.attributes):
            values = np.array(predictions.attributes[attribute])
            different = sorted(set(predictions.attributes[attribute]))
            if len(different) > 1:
                found += [
                    self._group(attribute, str(value), predictions.select(values == value)) for value in different
                ]
        return tuple(found)

    def _group(self, attribute: str, value: str, group: Predictions) -> GroupResult:
        statistics: dict[str, Statistic] = {}
        if group.counts is not None:
            statistics["auroc"] = auroc_statistic
        if self.threshold is not None and group.labels.any():
            statistics["sensitivity"] = sensitivity_statistic(self.threshold)
        if self.threshold is not None and not group.labels.all():
            statistics["specificity"] = specificity_statistic(self.threshold)
        intervals = bootstrap_intervals(
            group.labels,
            group.scores,
            group.patients,
            statistics,
            num_resamples=self.num_resamples,
            generator=numpy_generator(self.seed, "bootstrap", attribute, value),
        )
        num_patients = len(np.unique(group.patients))
        return GroupResult(
            attribute=attribute,
            value=value,
            num_lesions=len(group.labels),
            num_malignant=int(group.labels.sum()),
            num_patients=num_patients,
            is_small=num_patients < SMALL_GROUP,
            figures=_figures(statistics, ClassCounts.of_any(group.labels, group.scores), intervals),
        )


def roc_band(predictions: Predictions, num_resamples: int, seed: int) -> RocBand | None:
    """Return the band of the ROC curve over patients; None where the lesions are of one class."""
    if predictions.counts is None:
        return None
    return bootstrap_roc_band(
        predictions.labels,
        predictions.scores,
        predictions.patients,
        num_resamples=num_resamples,
        generator=numpy_generator(seed, "bootstrap", "roc"),
    )


def _operating_point(threshold: float, prevalence: float) -> dict[str, Statistic]:
    figures: dict[str, Callable[[ConfusionCounts], float | None]] = {
        "sensitivity": lambda calls: calls.sensitivity,
        "specificity": lambda calls: calls.specificity,
        "balanced_accuracy": lambda calls: calls.balanced_accuracy,
        "f1": lambda calls: calls.f1,
        "ppv": lambda calls: calls.ppv(),
        "npv": lambda calls: calls.npv(),
        "ppv_at_prevalence": lambda calls: calls.ppv(prevalence),
        "npv_at_prevalence": lambda calls: calls.npv(prevalence),
    }
    return {name: calls_statistic(threshold, figure) for name, figure in figures.items()}


def _figures(
    statistics: Mapping[str, Statistic], counts: ClassCounts, intervals: Mapping[str, Interval | None]
) -> tuple[Figure, ...]:
    values = {name: statistic(counts) for name, statistic in statistics.items()}
    return tuple(
        Figure(name=name, value=value, interval=None if value is None else intervals.get(name))
        for name, value in values.items()
    )


def _delong_interval(labels: IntArray, scores: FloatArray, owners: IntArray) -> Interval | None:
    if min(len(set(owners[labels == 1])), len(set(owners[labels == 0]))) < 2:
        return None
    return delong.aurocs(labels, [scores], owners).interval()
