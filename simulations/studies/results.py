"""What the runs of a study found: a row for every run, compared with the first of its seed, and means over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from server.evaluation.predictions import PREDICTIONS_FILE, Predictions
from server.results.document import RESULTS_FILE, read_results
from server.results.estimate import Estimate
from server.results.evidence import Evidence
from shared_model.config.choices import PrivacyMode
from shared_model.metrics import delong
from shared_model.metrics.delong import PairedComparison
from simulations.studies.jobs import Job

SUMMARISED = ("auroc", "average_precision", "sensitivity", "specificity", "brier")
"""Figures of merit that tables show."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run at one seed."""

    run: str
    """Its name."""
    seed: int
    epsilon: float | None
    """Promised to every training patient; None without privacy."""
    evidence: Evidence | None
    """None where the test lesions are of one class."""
    against_first: PairedComparison | None
    """AUC less that of the first run of the seed, on the same test lesions; None for the first, or on others."""
    site_auroc: float | None
    """What the sites' own histograms show, and so the AUC that a coordinator without test lesions would report."""
    source: str
    """Fingerprint of the source code that ran it: after an interruption another one may have gone on."""

    def estimate(self, name: str) -> Estimate | None:
        """Return a figure of merit by lesion; None where it was not computed."""
        return None if self.evidence is None else self.evidence.levels[0].estimate(name)

    def auroc_at(self, site: str) -> Estimate | None:
        """Return the AUC at one hospital; None where none of its patients were tested."""
        groups = () if self.evidence is None else self.evidence.groups
        return next(
            (group.estimate("auroc") for group in groups if group.attribute == "site" and group.value == site), None
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One run over all seeds."""

    run: str
    num_seeds: int
    mean: Mapping[str, float | None]
    """By figure of merit; None where a seed has none."""
    deviation: Mapping[str, float | None]
    """Standard deviation over seeds; None for one seed."""


def summarise(rows: Sequence[Row], *, together: str | None = None) -> list[Summary]:
    """Return mean and standard deviation over the seeds of every run, or of all rows as one run called ``together``."""
    names = list(dict.fromkeys(row.run for row in rows)) if together is None else [together]
    return [_summary(name, [row for row in rows if together is not None or row.run == name]) for name in names]


def _summary(name: str, rows: Sequence[Row]) -> Summary:
    values = {figure: [value_of(row.estimate(figure)) for row in rows] for figure in SUMMARISED}
    return Summary(
        run=name,
        num_seeds=len(rows),
        mean={figure: mean_of(of_figure) for figure, of_figure in values.items()},
        deviation={figure: _deviation_of(of_figure) for figure, of_figure in values.items()},
    )


def value_of(estimate: Estimate | None) -> float | None:
    """Return the value of an estimate, None where there is none."""
    return None if estimate is None else estimate.value


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where there are no values, or one of them is None.

    >>> mean_of([0.5, 1.0]), mean_of([0.5, None]), mean_of([])
    (0.75, None, None)
    """
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _deviation_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) == len(values) > 1 else None


def read_rows(jobs: Iterable[Job]) -> list[Row]:
    """Return a row for every finished run, compared with the first of the same seed."""
    first_of_seed: dict[int, Predictions] = {}
    rows = []
    for job in jobs:
        seed = job.config.seed
        rows.append(read_row(job, first=first_of_seed.get(seed)))
        if seed not in first_of_seed:
            first_of_seed[seed] = Predictions.from_csv(job.folder / PREDICTIONS_FILE)
    return rows


def read_row(job: Job, *, first: Predictions | None) -> Row:
    """Return what a finished run found.

    Args:
        job: with results in its folder.
        first: predictions of the run that this one is compared with; None compares with nothing.
    """
    privacy, results = job.config.privacy, read_results(job.folder / RESULTS_FILE)
    return Row(
        run=job.name,
        seed=job.config.seed,
        epsilon=privacy.target_epsilon if privacy.mode is PrivacyMode.PATIENT else None,
        evidence=results.evidence,
        against_first=None if first is None else _compare(Predictions.from_csv(job.folder / PREDICTIONS_FILE), first),
        site_auroc=results.final.auroc_site_histograms,
        source=results.provenance.source_fingerprint,
    )


def _compare(predictions: Predictions, first: Predictions) -> PairedComparison | None:
    """Compare on the same lesions; None on others, or where a class has too few patients."""
    if not predictions.has_same_lesions(first):
        return None
    try:
        return delong.compare(predictions.labels, predictions.scores, first.scores, predictions.patients)
    except ValueError:
        return None
