"""The folder that a run leaves behind: configuration first, results last, so that results mean a complete run."""

import dataclasses
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml

from server.evaluation.estimates import Appraisal, roc_band
from server.evaluation.global_evaluation import GlobalEvaluation
from server.evaluation.predictions import (
    HISTOGRAM_FILE,
    PREDICTIONS_FILE,
    Predictions,
    counts_to_csv,
    read_attributes,
)
from server.evaluation.site_histograms import site_auroc
from server.federation.checkpoints import SiteState, remove_checkpoint
from server.federation.rounds import Outcome
from server.report.run_figures import draw_roc, draw_rounds, save_png
from server.results.document import (
    RESULTS_FILE,
    AurocSource,
    FinalResult,
    PrivacyResult,
    PrivacyUnit,
    Results,
    RunProvenance,
    SiteResult,
    ThresholdSource,
    write_results,
)
from server.results.evidence import Evidence, Level
from shared_model.config.choices import EvaluationPrivacy, NoiseSource, PrivacyMode
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import config_fingerprint, source_fingerprint, versions
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError, RoundError
from shared_model.messages import Histogram
from shared_model.metrics.counts import ClassCounts, Interval, ScoreHistogram, roc_of
from shared_model.network.parameters import to_safetensors
from shared_model.system.files import write_atomically

CONFIG_FILE = "config.yaml"
"""The composed configuration."""
FAILURE_FILE = "failure.txt"
"""Why the run ended without results; gone when it is resumed."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A run that has begun."""

    path: Path
    config: ExperimentConfig
    started: datetime
    started_clock: float

    @classmethod
    def begin(cls, config: ExperimentConfig) -> "RunFolder":
        """Create the folder and write the composed configuration.

        Raises:
            ConfigError: the folder already holds a finished run, or cannot be written.
        """
        path = Path(config.run.dir)
        if (path / RESULTS_FILE).exists():
            raise ConfigError(f"Expected run.dir={path} without the results of another run; name a new folder.")
        try:
            path.mkdir(parents=True, exist_ok=True)
            plain = yaml.safe_dump(_configuration(config), sort_keys=False)
            write_atomically(path / CONFIG_FILE, plain.encode())
            (path / FAILURE_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"Expected run.dir={path} to be a folder that can be written: {error}.") from error
        return cls(path=path, config=config, started=datetime.now(UTC), started_clock=time.monotonic())

    def finish(self, outcome: Outcome) -> Results:
        """Write model, test lesions, figures and, last, the results; ``server.report.html_report`` reads them."""
        evaluation = _last_evaluation(outcome)
        predictions = _predictions(self.config, evaluation)
        results, counts = self._results(outcome, predictions), _counts(evaluation, predictions)
        write_atomically(self.path / "model.safetensors", to_safetensors({**outcome.parameters, **outcome.constants}))
        if predictions is not None:
            write_atomically(self.path / PREDICTIONS_FILE, predictions.to_csv())
        elif counts is not None:
            write_atomically(self.path / HISTOGRAM_FILE, counts_to_csv(counts))
        title = self.config.preset
        save_png(draw_rounds(results.rounds, results.sites, title=title), self.path / "rounds.png")
        if counts is not None:
            num_resamples = self.config.evaluation.bootstrap_resamples
            band = None if predictions is None else roc_band(predictions, num_resamples, self.config.seed)
            save_png(draw_roc(roc_of(counts), final=results.final, band=band, title=title), self.path / "roc.png")
        write_results(results, self.path / RESULTS_FILE)
        remove_checkpoint(self.path)
        return results

    def fail(self, reason: str) -> None:
        """Leave ``reason``, one line, for whoever follows the run from another process."""
        write_atomically(self.path / FAILURE_FILE, reason.encode())

    def _results(self, outcome: Outcome, predictions: Predictions | None) -> Results:
        finished, config, evaluation = datetime.now(UTC), self.config, _last_evaluation(outcome)
        evidence = _evidence(config, evaluation, predictions)
        return Results(
            preset=config.preset,
            seed=config.seed,
            final=_final(evaluation, config, predictions, evidence),
            evidence=evidence,
            rounds=outcome.rounds,
            sites=tuple(_site(name, site) for name, site in outcome.last.sites.items()),
            privacy=_privacy(config),
            provenance=RunProvenance(
                source_fingerprint=source_fingerprint(),
                config_fingerprint=config_fingerprint(config),
                versions=versions(),
                python=platform.python_version(),
                platform=platform.platform(),
                started=self.started.isoformat(timespec="seconds"),
                finished=finished.isoformat(timespec="seconds"),
                seconds=round(time.monotonic() - self.started_clock, 3),
            ),
        )


def _configuration(config: ExperimentConfig) -> dict[str, object]:
    return {name: _plain(value) for name, value in dataclasses.asdict(config).items()}


def _plain(value: object) -> object:
    """Return nested dicts and lists of plain scalars, as YAML's safe dumper wants them."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, str) else value


def _predictions(config: ExperimentConfig, evaluation: GlobalEvaluation) -> Predictions | None:
    if config.evaluation.holdout is None or evaluation.scores is None:
        return None
    path = Path(config.evaluation.holdout)
    lesions = Lesions.load(path)
    return Predictions.of(lesions, evaluation.scores, read_attributes(path, len(lesions)))


def _counts(evaluation: GlobalEvaluation, predictions: Predictions | None) -> ClassCounts | None:
    """Return the test lesions of both classes by score; None for noisy counts, through which no curve is monotone."""
    if predictions is not None:
        return predictions.counts
    if not isinstance(evaluation.site_test, ScoreHistogram):
        return None
    counts = evaluation.site_test.class_counts
    return counts if counts.has_both_classes else None


def _evidence(
    config: ExperimentConfig, evaluation: GlobalEvaluation, predictions: Predictions | None
) -> Evidence | None:
    appraisal = Appraisal(
        threshold=evaluation.threshold,
        prevalence=config.evaluation.prevalence,
        num_resamples=config.evaluation.bootstrap_resamples,
        seed=config.seed,
    )
    if predictions is not None:
        return appraisal.of_predictions(predictions)
    counts = _counts(evaluation, None)
    return None if counts is None else appraisal.of_histogram(counts)


def _last_evaluation(outcome: Outcome) -> GlobalEvaluation:
    """Return the figures of the last round, in which somebody's lesions are always scored."""
    evaluation = outcome.last.evaluation
    if evaluation is None:
        raise RoundError("Expected the last round to be evaluated, it was not.")
    return evaluation


def _final(
    evaluation: GlobalEvaluation,
    config: ExperimentConfig,
    predictions: Predictions | None,
    evidence: Evidence | None,
) -> FinalResult:
    site_test = evaluation.site_test
    by_lesion = None if evidence is None else evidence.level(Level.LESION)

    def interval(name: str) -> Interval | None:
        figure = None if by_lesion is None else by_lesion.figure(name)
        return None if figure is None else figure.interval

    is_public, site_figures = config.evaluation.public is not None, site_test and site_auroc(site_test)
    return FinalResult(
        auroc=evaluation.auroc,
        auroc_interval=interval("auroc"),
        auroc_source=AurocSource.SITE_HISTOGRAMS if predictions is None else AurocSource.SERVER_HOLDOUT,
        auroc_site_histograms=site_figures.value if site_figures else None,
        auroc_site_histograms_error_bound=site_figures.binning_bound if site_figures else None,
        auroc_site_histograms_noise_standard_error=site_figures.noise_standard_error if site_figures else None,
        sensitivity=evaluation.sensitivity,
        sensitivity_interval=interval("sensitivity"),
        specificity=evaluation.specificity,
        specificity_interval=interval("specificity"),
        threshold=evaluation.threshold,
        threshold_source=ThresholdSource.PUBLIC_PATIENTS if is_public else ThresholdSource.SITE_VALIDATION,
        target_sensitivity=config.evaluation.target_sensitivity,
        num_lesions=_num_lesions(site_test) if predictions is None else len(predictions.labels),
        num_patients=None if predictions is None else len(np.unique(predictions.patients)),
        round=config.training.num_rounds,
    )


def _num_lesions(histogram: Histogram | None) -> int | None:
    return histogram.num_lesions if isinstance(histogram, ScoreHistogram) else None


def _site(name: str, site: SiteState) -> SiteResult:
    privacy, figures = site.privacy, None if site.test is None else site_auroc(site.test)
    return SiteResult(
        site=name,
        num_patients_declared=site.num_patients_declared,
        epsilon=None if privacy is None else privacy.epsilon,
        delta=None if privacy is None else privacy.delta,
        noise_multiplier=None if privacy is None else privacy.noise_multiplier,
        auroc=None if figures is None else figures.value,
        num_test_lesions=_num_lesions(site.test),
    )


def _evaluation_statement(config: ExperimentConfig) -> str:
    evaluation = config.evaluation
    if evaluation.privacy is EvaluationPrivacy.NONE:
        return "sites sent nothing about their test and validation patients"
    if evaluation.privacy is EvaluationPrivacy.EXACT:
        return "test and validation counts are exact and not covered by epsilon"
    return (
        f"test and validation counts are ({evaluation.target_epsilon:g}, {evaluation.delta:g})-differentially private "
        "for every test and validation patient"
    )


def _privacy(config: ExperimentConfig) -> PrivacyResult:
    privacy = config.privacy
    evaluation = _evaluation_statement(config)
    if privacy.mode is PrivacyMode.OFF:
        return PrivacyResult(
            unit=PrivacyUnit.NONE,
            adjacency=None,
            mechanism=None,
            target_epsilon=None,
            noise_source=None,
            evaluation=evaluation,
            statement="No privacy guarantee: updates were neither clipped nor noised.",
        )
    statement = (
        f"What each site sent in training is ({privacy.target_epsilon:g}, {privacy.delta:g})-differentially private "
        "for every patient of its training cohort."
    )
    if privacy.noise is NoiseSource.SEEDED:
        statement = "The noise was reproducible, so nobody was protected: a rehearsal, not a private run."
    return PrivacyResult(
        unit=PrivacyUnit.PATIENT,
        adjacency="add or remove one patient with all lesions",
        mechanism="Gaussian mechanism on clipped per-patient gradients"
        + ("" if config.training.sampling_rate == 1 else ", Poisson-sampled patients"),
        target_epsilon=privacy.target_epsilon,
        noise_source=privacy.noise,
        evaluation=evaluation,
        statement=statement,
    )
