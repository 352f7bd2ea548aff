"""The folder that a run leaves behind: configuration first, results last, so that results mean a complete run."""

import dataclasses
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save

from server.checkpoints import SiteState, remove_checkpoint
from server.evaluator import GlobalEvaluation
from server.federation import Outcome
from server.figures import write_roc, write_rounds
from server.results import (
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
from server.site_histograms import site_auroc
from shared_model.choices import EvaluationPrivacy, NoiseSource, PrivacyMode
from shared_model.config import ExperimentConfig
from shared_model.errors import ConfigError, RoundError
from shared_model.files import write_atomically
from shared_model.lesions import Lesions
from shared_model.messages import Histogram
from shared_model.metrics import (
    Interval,
    ScoreHistogram,
    Statistic,
    auroc_statistic,
    roc_curve,
    roc_curve_from_histogram,
    sensitivity_statistic,
    specificity_statistic,
)
from shared_model.provenance import config_fingerprint, source_fingerprint, versions
from shared_model.resampling import RocBand, bootstrap_interval, bootstrap_roc_band
from shared_model.seeding import numpy_generator

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
            plain = yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False)
            write_atomically(path / "config.yaml", plain.encode())
            (path / FAILURE_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"Expected run.dir={path} to be a folder that can be written: {error}.") from error
        return cls(path=path, config=config, started=datetime.now(UTC), started_clock=time.monotonic())

    def finish(self, outcome: Outcome) -> Results:
        """Write model, figures and, last, the results."""
        holdout = _holdout(self.config)
        results = self._results(outcome, holdout)
        write_atomically(self.path / "model.safetensors", save({**outcome.parameters, **outcome.constants}))
        write_rounds(self.path / "rounds.png", results.rounds, results.sites, title=self.config.preset)
        self._write_roc(_last_evaluation(outcome), holdout, results.final)
        write_results(results, self.path / RESULTS_FILE)
        remove_checkpoint(self.path)
        return results

    def fail(self, reason: str) -> None:
        """Leave ``reason``, one line, for whoever follows the run from another process."""
        write_atomically(self.path / FAILURE_FILE, reason.encode())

    def _write_roc(self, evaluation: GlobalEvaluation, holdout: Lesions | None, final: FinalResult) -> None:
        band: RocBand | None = None
        if holdout is not None and evaluation.scores is not None:
            labels = holdout.labels.numpy()
            curve = roc_curve(labels, evaluation.scores)
            band = bootstrap_roc_band(
                labels,
                evaluation.scores,
                holdout.patients.numpy(),
                num_resamples=self.config.evaluation.bootstrap_resamples,
                generator=numpy_generator(self.config.seed, "bootstrap", "roc"),
            )
        else:
            # A curve through noisy counts would go down as well as up.
            exact = evaluation.site_test if isinstance(evaluation.site_test, ScoreHistogram) else None
            binned = None if exact is None else roc_curve_from_histogram(exact)
            if binned is None:
                return
            curve = binned
        write_roc(self.path / "roc.png", curve, final=final, band=band, title=self.config.preset)

    def _results(self, outcome: Outcome, holdout: Lesions | None) -> Results:
        finished, config = datetime.now(UTC), self.config
        return Results(
            preset=config.preset,
            seed=config.seed,
            final=_final(_last_evaluation(outcome), config, holdout),
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


def _plain(value: object) -> object:
    """Return nested dicts and lists of plain scalars, as YAML's safe dumper wants them."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, str) else value


def _holdout(config: ExperimentConfig) -> Lesions | None:
    return None if config.evaluation.holdout is None else Lesions.load(Path(config.evaluation.holdout))


def _last_evaluation(outcome: Outcome) -> GlobalEvaluation:
    """Return the figures of the last round, in which somebody's lesions are always scored."""
    evaluation = outcome.last.evaluation
    if evaluation is None:
        raise RoundError("Expected the last round to be evaluated, it was not.")
    return evaluation


def _final(evaluation: GlobalEvaluation, config: ExperimentConfig, holdout: Lesions | None) -> FinalResult:
    threshold, site_test = evaluation.threshold, evaluation.site_test
    statistics: dict[str, tuple[float | None, Statistic]] = {"auroc": (evaluation.auroc, auroc_statistic)}
    if threshold is not None:
        statistics |= {
            "sensitivity": (evaluation.sensitivity, sensitivity_statistic(threshold)),
            "specificity": (evaluation.specificity, specificity_statistic(threshold)),
        }
    intervals = {
        name: None if value is None else _interval(name, statistic, evaluation.scores, holdout, config)
        for name, (value, statistic) in statistics.items()
    }
    is_public, site_figures = config.evaluation.public is not None, site_test and site_auroc(site_test)
    return FinalResult(
        auroc=evaluation.auroc,
        auroc_interval=intervals["auroc"],
        auroc_source=AurocSource.SITE_HISTOGRAMS if holdout is None else AurocSource.SERVER_HOLDOUT,
        auroc_site_histograms=site_figures.value if site_figures else None,
        auroc_site_histograms_error_bound=site_figures.binning_bound if site_figures else None,
        auroc_site_histograms_noise_standard_error=site_figures.noise_standard_error if site_figures else None,
        sensitivity=evaluation.sensitivity,
        sensitivity_interval=intervals.get("sensitivity"),
        specificity=evaluation.specificity,
        specificity_interval=intervals.get("specificity"),
        threshold=threshold,
        threshold_source=ThresholdSource.PUBLIC_PATIENTS if is_public else ThresholdSource.SITE_VALIDATION,
        target_sensitivity=config.evaluation.target_sensitivity,
        num_lesions=_num_lesions(site_test) if holdout is None else len(holdout),
        num_patients=None if holdout is None else holdout.num_patients,
        round=config.training.num_rounds,
    )


def _num_lesions(histogram: Histogram | None) -> int | None:
    return histogram.num_lesions if isinstance(histogram, ScoreHistogram) else None


def _interval(
    name: str,
    statistic: Statistic,
    scores: np.ndarray[tuple[int], np.dtype[np.float64]] | None,
    holdout: Lesions | None,
    config: ExperimentConfig,
) -> Interval | None:
    if holdout is None or scores is None:
        return None
    return bootstrap_interval(
        holdout.labels.numpy(),
        scores,
        holdout.patients.numpy(),
        statistic,
        num_resamples=config.evaluation.bootstrap_resamples,
        generator=numpy_generator(config.seed, "bootstrap", name),
    )


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
