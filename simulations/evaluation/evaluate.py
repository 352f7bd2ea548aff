"""Evaluates the final network of a finished run on other lesions, and writes what was found into a new folder."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from client.data.network_inputs import Progress
from client.data.tables.rejects import REJECT_COLUMNS
from server.evaluation.estimates import (
    EstimateSettings,
    estimate_from_predictions,
    estimate_group,
)
from server.evaluation.predictions import PREDICTIONS_FILE, Predictions, columns_to_csv
from server.report.html_report import REPORT_FILE
from shared_model.config.fingerprints import source_fingerprint
from shared_model.errors import ConfigError
from shared_model.metrics.calibration import reliability_curve
from shared_model.metrics.counts import ClassCounts
from shared_model.metrics.score_histogram import binned_scores
from shared_model.network.scoring import predict
from shared_model.system.files import write_atomically
from shared_model.system.spreadsheets import harmless_csv
from shared_model.vocabulary import Split
from simulations.evaluation.document import (
    EVALUATION_FILE,
    NUM_SCORE_BINS,
    EvaluatedLesions,
    EvaluatedRun,
    Evaluation,
    ReliabilityBin,
    ScoreDistribution,
    write_evaluation,
)
from simulations.evaluation.drift import drift_from_own_test, feature_drift
from simulations.evaluation.finished_model import FinishedModel
from simulations.evaluation.other_lesions import OtherLesions, Source, read_other_lesions
from simulations.evaluation.page import to_html
from simulations.evaluation.recalibration import Recalibrated, RecalibrationRequest, recalibrate

LESIONS_FILE, REJECTS_FILE = "lesions.csv", "rejects.csv"
"""They name patients: whose score is whose, and which rows could not be used."""
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_ALL = "lesions"


def new_folder(run: Path, source: Source, out: Path | None) -> Path:
    """Return the folder for the results, which holds nothing yet.

    Raises:
        ConfigError: it holds something, or is a file.
    """
    folder = run / f"evaluation-{source.name}" if out is None else out
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"Expected --out {folder} to be a new folder; name another one.")
    return folder


def evaluate(
    model: FinishedModel, source: Source, folder: Path, *, request: RecalibrationRequest | None, report: Progress
) -> Evaluation:
    """Score the lesions of ``source``, compute the figures, and write all of it into ``folder``.

    Args:
        model: of the run.
        source: of the lesions.
        folder: for the results; as ``new_folder`` returns it.
        request: for a recalibration; None for none.
        report: told of the images that are read.

    Raises:
        ConfigError: the lesions are not what the network reads, or what is asked for needs outcomes.
        DataError: the table cannot be read, or no lesion be scored.
    """
    other = read_other_lesions(source, model.config, report)
    if request is not None and not other.has_outcomes:
        raise ConfigError(f"Expected outcomes (label) in {source.path} to show what a recalibration is worth.")
    predictions = Predictions.from_lesions(other.lesions, predict(model.network, other.lesions), other.attributes)
    settings = EstimateSettings(
        threshold=model.threshold,
        prevalence=model.config.evaluation.prevalence,
        num_resamples=model.config.evaluation.bootstrap_resamples,
        seed=model.config.seed,
    )
    recalibrated = None
    if request is not None:
        recalibrated = recalibrate(request, predictions, other.lesions, model.network, model.config, settings)
    evaluation = _evaluation(model, source, other, predictions, settings, recalibrated)
    write_atomically(folder / REPORT_FILE, to_html(evaluation, model, predictions, recalibrated).encode())
    _write_tables(folder, other, predictions)
    # Last, so that it means a complete evaluation.
    write_evaluation(evaluation, folder / EVALUATION_FILE)
    return evaluation


def _evaluation(
    model: FinishedModel,
    source: Source,
    other: OtherLesions,
    predictions: Predictions,
    settings: EstimateSettings,
    recalibrated: Recalibrated | None,
) -> Evaluation:
    evidence = one_class = None
    if other.has_outcomes:
        evidence = estimate_from_predictions(predictions, settings)
        one_class = None if evidence is not None else estimate_group(_ALL, "all", predictions, settings)
    drift = drift_from_own_test(model.predictions, predictions, has_outcomes=other.has_outcomes, seed=model.config.seed)
    features = feature_drift(
        model.network,
        other.lesions,
        model.config,
        declared=[site.num_patients_declared for site in model.results.sites],
        num_resamples=settings.num_resamples,
    )
    return Evaluation(
        run=EvaluatedRun(
            preset=model.results.preset,
            seed=model.results.seed,
            model_sha256=model.digest,
            source_fingerprint=model.results.provenance.source_fingerprint,
            threshold=model.threshold,
        ),
        lesions=_lesions(model, source, other),
        scores=_distribution(predictions, model.threshold),
        evidence=evidence,
        one_class=one_class,
        reliability=_reliability(predictions) if other.has_outcomes else (),
        drift=dataclasses.replace(drift, features=features),
        recalibration=None if recalibrated is None else recalibrated.result,
        source_fingerprint=source_fingerprint(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _lesions(model: FinishedModel, source: Source, other: OtherLesions) -> EvaluatedLesions:
    notes = list(other.notes)
    if not other.has_outcomes:
        notes.append("The table has no outcomes: there are scores and their distribution, and no figure of merit.")
    if model.threshold is None:
        notes.append("The run has chosen no threshold: nothing is called malignant, and only ranks are judged.")
    if model.predictions is None:
        notes.append("The run's folder holds no test lesions of its own: drift of scores and columns is not known.")
    if not source.is_manifest and source.split is not Split.TEST:
        notes.append("Rows of the official training split are among these: was the network trained on their patients?")
    return EvaluatedLesions(
        name=source.name,
        num_rows=other.num_rows,
        num_lesions=len(other.lesions),
        num_with_image=int(other.lesions.has_image.sum()),
        num_patients=other.lesions.num_patients,
        num_malignant=int(other.lesions.labels.sum()) if other.has_outcomes else None,
        rejected=other.reasons(),
        notes=tuple(notes),
    )


def _distribution(predictions: Predictions, threshold: float | None) -> ScoreDistribution:
    scores = predictions.scores
    _, bin_of = binned_scores(np.zeros(len(scores)), scores, NUM_SCORE_BINS)
    bins = np.bincount(bin_of, minlength=NUM_SCORE_BINS)
    return ScoreDistribution(
        mean=float(scores.mean()),
        quantiles=tuple(float(value) for value in np.quantile(scores, _QUANTILES)),
        bins=tuple(int(count) for count in bins),
        num_called=None if threshold is None else int((scores >= threshold).sum()),
    )


def _reliability(predictions: Predictions) -> tuple[ReliabilityBin, ...]:
    curve = reliability_curve(ClassCounts.from_scores(predictions.labels, predictions.scores))
    rows = zip(curve.predicted, curve.observed, curve.num_lesions, strict=True)
    return tuple(
        ReliabilityBin(predicted=min(float(p), 1.0), observed=float(o), num_lesions=int(n)) for p, o, n in rows
    )


def _write_tables(folder: Path, other: OtherLesions, predictions: Predictions) -> None:
    scores = [repr(float(score)) for score in predictions.scores]
    anonymous = predictions.to_csv()
    if not other.has_outcomes:
        columns = {"patient": map(str, predictions.patients), "score": scores, **predictions.attributes}
        anonymous = columns_to_csv(columns)
    write_atomically(folder / PREDICTIONS_FILE, anonymous)
    named = {"patient_id": other.patient_ids, "lesion_id": other.lesion_ids, "score": scores}
    write_atomically(folder / LESIONS_FILE, columns_to_csv(named))
    write_atomically(folder / REJECTS_FILE, harmless_csv(REJECT_COLUMNS, other.rejects))
