"""A finished run, read back from its folder: what the report and the model card show."""

import base64
import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from server.evaluation.estimates import roc_band
from server.evaluation.predictions import HISTOGRAM_FILE, PREDICTIONS_FILE, Predictions, counts_from_csv
from server.evaluation.training_histogram import read_training_histogram
from server.report.decisions import Decisions, decide
from server.report.epsilon_study import EpsilonStudy, read_epsilon_study
from server.report.explanations import EXPLANATIONS_FOLDER, Explanations, read_explanations
from server.report.run_folder import CONFIG_FILE
from server.results.document import RESULTS_FILE, Results, read_results
from shared_model.errors import ConfigError, DataError
from shared_model.metrics.bootstrap import RocBand
from shared_model.metrics.counts import ClassCounts

REJECTS_FILE, PATIENTS_FILE = "rejects.csv", "patients.csv"
"""In the folder ``sites/NAME`` of a simulation."""


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """The results of a run, and what else its folder holds for the reader."""

    results: Results
    configuration: Mapping[str, object]
    """As in ``config.yaml``."""
    score_counts: ClassCounts | None
    """Benign and malignant test lesions at each score; None where a class is missing or the counts carry noise."""
    roc_band: RocBand | None
    """95 % band of the ROC curve; None without ``predictions``."""
    predictions: Predictions | None
    """The server's own test lesions; None where metrics come from the sites' histograms."""
    decisions: Decisions
    """What the scores would decide, and what the run lacks for it."""
    rejects: Mapping[str, Mapping[str, int]]
    """Rows that could not be used, by simulated site and reason; empty where sites keep that to themselves."""
    patients: Mapping[str, Mapping[str, tuple[int, int]]]
    """Patients and lesions in use, by simulated site and role (train, test, ...); empty likewise."""
    explanations: Explanations | None
    """None until the run has been explained."""
    pictures: Mapping[str, str]
    """File name of an explained lesion's picture to its ``data:`` address."""
    epsilon_study: EpsilonStudy | None
    """None unless the run is one of a study over epsilon."""

    @classmethod
    def load(cls, folder: Path) -> "StoredRun":
        """Read a run folder.

        Raises:
            ConfigError: the folder holds no finished run, or a file of it cannot be read.
        """
        try:
            results = read_results(folder / RESULTS_FILE)
            configuration = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            num_resamples = int(configuration["evaluation"]["bootstrap_resamples"])
            predictions, score_counts = _read_scores(folder)
            explanations = read_explanations(folder / EXPLANATIONS_FOLDER)
            return cls(
                results=results,
                configuration=configuration,
                score_counts=score_counts,
                roc_band=None if predictions is None else roc_band(predictions, num_resamples, results.seed),
                predictions=predictions,
                decisions=_decide(folder, results, configuration, predictions, num_resamples),
                rejects=_read_rejects(folder),
                patients=_read_patients(folder),
                explanations=explanations,
                pictures=_read_pictures(folder / EXPLANATIONS_FOLDER, explanations),
                epsilon_study=read_epsilon_study(folder),
            )
        except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError, DataError) as error:
            raise ConfigError(f"Expected a finished run in {folder}: {error}") from error


def _decide(
    folder: Path,
    results: Results,
    configuration: Mapping[str, Mapping[str, object]],
    predictions: Predictions | None,
    num_resamples: int,
) -> Decisions:
    is_independent = configuration["model"]["modality"] == "image" or configuration["data"]["features"] == "safe"
    return decide(
        results,
        predictions,
        read_training_histogram(folder),
        is_independent=is_independent,
        num_resamples=num_resamples,
    )


def _read_scores(folder: Path) -> tuple[Predictions | None, ClassCounts | None]:
    if (folder / PREDICTIONS_FILE).exists():
        predictions = Predictions.from_csv(folder / PREDICTIONS_FILE)
        return predictions, predictions.counts
    return None, counts_from_csv(folder / HISTOGRAM_FILE) if (folder / HISTOGRAM_FILE).exists() else None


def _read_pictures(folder: Path, explanations: Explanations | None) -> dict[str, str]:
    if explanations is None:
        return {}
    contents = {lesion.file: (folder / lesion.file).read_bytes() for lesion in explanations.lesions}
    return {name: f"data:image/png;base64,{base64.b64encode(content).decode()}" for name, content in contents.items()}


def _read_rejects(folder: Path) -> dict[str, dict[str, int]]:
    """Count the rejected rows of every simulated site by reason."""
    tables = _read_site_tables(folder, REJECTS_FILE)
    return {site: dict(Counter(row["reason"] for row in rows)) for site, rows in tables.items()}


def _read_patients(folder: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Read patients and lesions of every simulated site by role."""
    tables = _read_site_tables(folder, PATIENTS_FILE)
    return {
        site: {row["role"]: (int(row["patients"]), int(row["lesions"])) for row in rows}
        for site, rows in tables.items()
    }


def _read_site_tables(folder: Path, name: str) -> dict[str, list[dict[str, str]]]:
    """Read ``sites/*/name`` as rows by site."""
    tables: dict[str, list[dict[str, str]]] = {}
    for path in sorted(folder.glob(f"sites/*/{name}")):
        with path.open(newline="", encoding="utf-8") as stream:
            tables[path.parent.name] = list(csv.DictReader(stream))
    return tables
