"""The results of the privacy-utility study: mean AUC over seeds, with its interval, and the worst hospital."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from server.evaluation.predictions import Predictions
from shared_model.metrics.bootstrap import bootstrap_mean_interval
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.metrics.roc import auroc_from_counts
from shared_model.system.seeding import numpy_generator
from simulations.studies.privacy_utility import epsilon_words
from simulations.studies.results import Row, value_of

OPERATING = ("sensitivity", "specificity", "calibration_error")
"""Figures at the threshold that a run froze, or of its scores as probabilities."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over seeds."""

    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class UtilityResult:
    """One input or comparison at one target epsilon, over all seeds."""

    name: str
    epsilon: float | None
    num_seeds: int
    auroc: float
    """Mean over seeds."""
    deviation: float | None
    """Standard deviation over seeds; None for one seed."""
    interval: ConfidenceInterval | None
    """95 % of the mean, over patients; None where seeds have different test lesions."""
    worst_site: str | None
    """The hospital with the lowest AUC, if it is the same at every seed."""
    worst_auroc: float | None
    """The lowest AUC of a hospital, mean over seeds; None where a seed has none."""
    operating: Mapping[str, Spread]
    """Those of ``OPERATING`` that every seed has, and ``site_auroc``."""


def utility_results(rows: Sequence[tuple[Row, Predictions]], *, num_resamples: int) -> list[UtilityResult]:
    """Return a result for every name and target epsilon that ``rows`` have, in their order.

    Args:
        rows: all runs, with their test lesions.
        num_resamples: of the bootstrap.

    Raises:
        ValueError: the test lesions of a run are of one class.
    """
    by_run: dict[str, list[tuple[Row, Predictions]]] = {}
    for row, predictions in rows:
        by_run.setdefault(row.run, []).append((row, predictions))
    return [_result(name, rows_of_run, num_resamples) for name, rows_of_run in by_run.items()]


def _result(name: str, rows: Sequence[tuple[Row, Predictions]], num_resamples: int) -> UtilityResult:
    epsilon, first = rows[0][0].epsilon, rows[0][1]
    estimates = [row.estimate("auroc") for row, _ in rows]
    values = [estimate.value for estimate in estimates if estimate is not None and estimate.value is not None]
    if len(values) < len(rows):
        raise ValueError(f"Expected test lesions of both classes in every run of {name}.")
    interval = None
    if all(predictions.has_same_lesions(first) for _, predictions in rows):
        interval = bootstrap_mean_interval(
            first.labels,
            [predictions.scores for _, predictions in rows],
            first.patients,
            auroc_from_counts,
            num_resamples=num_resamples,
            generator=numpy_generator(0, "utility"),
        )
    worst = _worst_site([row for row, _ in rows])
    return UtilityResult(
        name=name.removesuffix(f", {epsilon_words(epsilon)}"),
        epsilon=epsilon,
        num_seeds=len(rows),
        auroc=float(np.mean(values)),
        deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        interval=interval,
        worst_site=None if worst is None else worst[0],
        worst_auroc=None if worst is None else worst[1],
        operating=_operating([row for row, _ in rows]),
    )


def _operating(rows: Sequence[Row]) -> dict[str, Spread]:
    figures = {name: [value_of(row.estimate(name)) for row in rows] for name in OPERATING}
    figures["site_auroc"] = [row.site_auroc for row in rows]
    return {
        name: Spread(mean=float(np.mean(known)), lowest=min(known), highest=max(known))
        for name, values in figures.items()
        if len(known := [value for value in values if value is not None]) == len(rows)
    }


def _worst_site(rows: Sequence[Row]) -> tuple[str | None, float] | None:
    """Return the lowest AUC of a hospital, mean over seeds, and which it is, if it is the same at every seed."""
    lowest = []
    for row in rows:
        groups = () if row.evidence is None else row.evidence.groups
        aurocs = {group.value: value_of(group.estimate("auroc")) for group in groups if group.attribute == "site"}
        known = [(auroc, site) for site, auroc in aurocs.items() if auroc is not None]
        if not known:
            return None
        lowest.append(min(known))
    names = {site for _, site in lowest}
    return (names.pop() if len(names) == 1 else None), float(np.mean([auroc for auroc, _ in lowest]))


def find_result(results: Sequence[UtilityResult], name: str, epsilon: float | None) -> UtilityResult | None:
    """Return the result of one input or comparison at one target epsilon; None where there is none."""
    return next((result for result in results if (result.name, result.epsilon) == (name, epsilon)), None)
