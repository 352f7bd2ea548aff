"""The run folder: configuration first, then model and test lesions, then the results, which mean a complete run.

Pictures come after them: one that cannot be drawn costs a line of warning and no result.
"""

import dataclasses
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from server.evaluation.estimates import roc_band
from server.evaluation.global_model import GlobalMetrics
from server.evaluation.predictions import (
    HISTOGRAM_FILE,
    PREDICTIONS_FILE,
    Predictions,
    counts_to_csv,
    read_attributes,
)
from server.federation.checkpoints import remove_checkpoint
from server.federation.rounds import FinishedTraining
from server.federation.sum_state import remove_sum_state
from server.report.plot_style import left_out_if_it_fails, save_png
from server.report.run_plots import draw_roc, draw_rounds
from server.report.run_results import final_metrics, results_from_training, score_counts
from server.results.document import RESULTS_FILE, Results, RunProvenance, write_results
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import config_fingerprint, source_fingerprint, versions
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError
from shared_model.metrics.counts import ClassCounts
from shared_model.metrics.roc import roc_curve
from shared_model.network.named_arrays import to_safetensors
from shared_model.system.files import write_atomically
from shared_model.system.process_lock import ProcessLock

CONFIG_FILE = "config.yaml"
"""The composed configuration."""
MODEL_FILE = "model.safetensors"
"""Trained parameters and constants of the final network."""
PUBLIC_FILE = "public.safetensors"
"""The public patients' lesions, if there were any, so that a release of the run can be calibrated on them."""
ROC_FILE, ROUNDS_FILE = "roc.png", "rounds.png"
FAILURE_FILE = "failure.txt"
"""Why the run ended without results; removed when it is resumed."""
LOCK_FILE = "run.lock"
"""There while the run goes on: names the process that works in the folder."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of a run that has begun, in which no other process works until it is closed."""

    path: Path
    config: ExperimentConfig
    started: datetime
    started_clock: float
    """Of ``time.monotonic``, in seconds."""
    lock: ProcessLock

    @classmethod
    def open(cls, config: ExperimentConfig) -> "RunFolder":
        """Create the folder ``config.run.dir``, or take the one of an unfinished run, and write the configuration.

        Raises:
            ConfigError: the folder already holds a finished run, another process works in it, or it cannot be written.
        """
        path = Path(config.run.dir)
        _require_no_results(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = ProcessLock.take(path / LOCK_FILE)
            try:
                # Another run may have ended between the first look and the lock.
                _require_no_results(path)
                write_atomically(path / CONFIG_FILE, _to_yaml(config))
                (path / FAILURE_FILE).unlink(missing_ok=True)
            except BaseException:
                lock.release()
                raise
        except OSError as error:
            raise ConfigError(f"Expected run.dir={path} to be a folder that can be written: {error}.") from error
        return cls(path=path, config=config, started=datetime.now(UTC), started_clock=time.monotonic(), lock=lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.lock.release()

    def finish(self, training: FinishedTraining) -> Results:
        """Write the model, the test lesions and the results, remove the checkpoint, and draw the pictures.

        A picture that cannot be drawn is left out with a warning. The folder stays this process' own until it is
        closed.

        Raises:
            RoundError: the last round was not evaluated.
            DataError: the server's test lesions cannot be read.
            OSError: a file cannot be written.
        """
        metrics = final_metrics(training)
        predictions = self._read_predictions(metrics)
        counts = score_counts(metrics, predictions)
        results = results_from_training(
            training, self.config, predictions=predictions, provenance=self._provenance(datetime.now(UTC))
        )
        write_atomically(self.path / MODEL_FILE, to_safetensors({**training.parameters, **training.constants}))
        if self.config.evaluation.public is not None:
            write_atomically(self.path / PUBLIC_FILE, Path(self.config.evaluation.public).read_bytes())
        if predictions is not None:
            write_atomically(self.path / PREDICTIONS_FILE, predictions.to_csv())
        elif counts is not None:
            write_atomically(self.path / HISTOGRAM_FILE, counts_to_csv(counts))
        write_results(results, self.path / RESULTS_FILE)
        remove_checkpoint(self.path)
        remove_sum_state(self.path)
        self._write_plots(results, counts, predictions)
        return results

    def fail(self, reason: str) -> None:
        """Leave ``reason``, one line, for whoever follows the run from another process."""
        write_atomically(self.path / FAILURE_FILE, reason.encode())

    def _read_predictions(self, metrics: GlobalMetrics) -> Predictions | None:
        if self.config.evaluation.holdout is None or metrics.scores is None:
            return None
        path = Path(self.config.evaluation.holdout)
        lesions = Lesions.load(path)
        return Predictions.from_lesions(lesions, metrics.scores, read_attributes(path, len(lesions)))

    def _write_plots(self, results: Results, counts: ClassCounts | None, predictions: Predictions | None) -> None:
        title = self.config.preset
        with left_out_if_it_fails(ROUNDS_FILE):
            save_png(draw_rounds(results.rounds, results.sites, title=title), self.path / ROUNDS_FILE)
        if counts is None:
            return
        with left_out_if_it_fails(ROC_FILE):
            num_resamples = self.config.evaluation.bootstrap_resamples
            band = None if predictions is None else roc_band(predictions, num_resamples, self.config.seed)
            save_png(draw_roc(roc_curve(counts), final=results.final, band=band, title=title), self.path / ROC_FILE)

    def _provenance(self, finished: datetime) -> RunProvenance:
        return RunProvenance(
            source_fingerprint=source_fingerprint(),
            config_fingerprint=config_fingerprint(self.config),
            versions=versions(*self.config.model.engine_packages),
            python=platform.python_version(),
            platform=platform.platform(),
            started=self.started.isoformat(timespec="seconds"),
            finished=finished.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self.started_clock, 3),
        )


def require_nobody_in(path: Path) -> None:
    """Check that no run goes on in the folder at ``path``, which need not exist.

    Raises:
        ConfigError: one does; the message names its process.
    """
    if (path / LOCK_FILE).exists():
        ProcessLock.take(path / LOCK_FILE).release()


def _require_no_results(path: Path) -> None:
    if (path / RESULTS_FILE).exists():
        raise ConfigError(f"Expected run.dir={path} without the results of another run; name a new folder.")


def _to_yaml(config: ExperimentConfig) -> bytes:
    return yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False).encode()


def _plain(value: object) -> object:
    """Return nested dicts and lists of plain scalars: YAML's safe dumper takes neither tuples nor enumerations."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, str) else value
