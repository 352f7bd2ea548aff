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

from server.evaluator import GlobalEvaluation
from server.federation import Outcome, RoundSummary, SiteState
from server.figures import write_roc, write_rounds
from server.results import (
    RESULTS_FILE,
    AurocSource,
    FinalResult,
    PrivacyResult,
    PrivacyUnit,
    Results,
    RoundResult,
    RunProvenance,
    SiteResult,
    ThresholdSource,
    write_results,
)
from shared_model.config import ExperimentConfig, NoiseSource, PrivacyMode
from shared_model.errors import ConfigError
from shared_model.files import write_atomically
from shared_model.lesions import Lesions
from shared_model.metrics import (
    Interval,
    RocBand,
    Statistic,
    auroc_binning_error,
    auroc_from_histogram,
    auroc_statistic,
    bootstrap_interval,
    bootstrap_roc_band,
    roc_curve,
    roc_curve_from_histogram,
    sensitivity_statistic,
    specificity_statistic,
)
from shared_model.provenance import config_fingerprint, source_fingerprint, versions
from shared_model.seeding import numpy_generator


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
        except OSError as error:
            raise ConfigError(f"Expected run.dir={path} to be a folder that can be written: {error}.") from error
        return cls(path=path, config=config, started=datetime.now(UTC), started_clock=time.monotonic())

    def finish(self, outcome: Outcome) -> Results:
        """Write model, figures and, last, the results."""
        holdout = _holdout(self.config)
        results = self._results(outcome, holdout)
        write_atomically(self.path / "model.safetensors", save({**outcome.parameters, **outcome.constants}))
        write_rounds(self.path / "rounds.png", results.rounds, results.sites, title=self.config.preset)
        self._write_roc(outcome.rounds[-1].evaluation, holdout, results.final)
        write_results(results, self.path / RESULTS_FILE)
        return results

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
            binned = roc_curve_from_histogram(evaluation.site_test)
            if binned is None:
                return
            curve = binned
        write_roc(self.path / "roc.png", curve, final=final, band=band, title=self.config.preset)

    def _results(self, outcome: Outcome, holdout: Lesions | None) -> Results:
        finished, config = datetime.now(UTC), self.config
        return Results(
            preset=config.preset,
            seed=config.seed,
            final=_final(outcome.rounds[-1], config, holdout),
            rounds=tuple(_round(summary) for summary in outcome.rounds),
            sites=tuple(_site(name, site) for name, site in outcome.rounds[-1].sites.items()),
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


def _final(summary: RoundSummary, config: ExperimentConfig, holdout: Lesions | None) -> FinalResult:
    evaluation = summary.evaluation
    confusion, threshold = evaluation.confusion, evaluation.threshold
    is_public = config.evaluation.public is not None
    statistics = {
        "auroc": (evaluation.auroc, auroc_statistic),
        "sensitivity": (confusion.sensitivity, sensitivity_statistic(threshold)),
        "specificity": (confusion.specificity, specificity_statistic(threshold)),
    }
    intervals = {
        name: None if value is None else _interval(name, statistic, evaluation.scores, holdout, config)
        for name, (value, statistic) in statistics.items()
    }
    return FinalResult(
        auroc=evaluation.auroc,
        auroc_interval=intervals["auroc"],
        auroc_source=AurocSource.SITE_HISTOGRAMS if holdout is None else AurocSource.SERVER_HOLDOUT,
        auroc_site_histograms=auroc_from_histogram(evaluation.site_test),
        auroc_site_histograms_error_bound=auroc_binning_error(evaluation.site_test),
        sensitivity=confusion.sensitivity,
        sensitivity_interval=intervals["sensitivity"],
        specificity=confusion.specificity,
        specificity_interval=intervals["specificity"],
        threshold=threshold,
        threshold_source=ThresholdSource.PUBLIC_PATIENTS if is_public else ThresholdSource.SITE_VALIDATION,
        target_sensitivity=config.evaluation.target_sensitivity,
        num_lesions=evaluation.site_test.num_lesions if holdout is None else len(holdout),
        num_patients=None if holdout is None else holdout.num_patients,
        round=summary.server_round,
    )


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


def _round(summary: RoundSummary) -> RoundResult:
    evaluation = summary.evaluation
    return RoundResult(
        round=summary.server_round,
        auroc=evaluation.auroc,
        sensitivity=evaluation.confusion.sensitivity,
        specificity=evaluation.confusion.specificity,
        threshold=evaluation.threshold,
        epsilon=summary.epsilon,
        num_sites=summary.num_sites,
        failures=len(summary.failures),
        seconds=round(summary.seconds, 3),
    )


def _site(name: str, site: SiteState) -> SiteResult:
    privacy, test = site.privacy, site.test
    return SiteResult(
        site=name,
        num_patients_declared=site.num_patients_declared,
        epsilon=None if privacy is None else privacy.epsilon,
        delta=None if privacy is None else privacy.delta,
        noise_multiplier=None if privacy is None else privacy.noise_multiplier,
        auroc=None if test is None else auroc_from_histogram(test),
        num_test_lesions=None if test is None else test.num_lesions,
    )


def _privacy(config: ExperimentConfig) -> PrivacyResult:
    privacy = config.privacy
    evaluation = "test and validation counts are exact and not covered by epsilon"
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
