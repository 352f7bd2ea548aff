"""A run of a study that is ready to start, and whether it has finished."""

from dataclasses import dataclass
from pathlib import Path

from server.results.document import RESULTS_FILE
from shared_model.config.experiment import ExperimentConfig


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a study, ready to start."""

    name: str
    config: ExperimentConfig

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.config.run.dir)

    @property
    def is_finished(self) -> bool:
        """Whether the run has results."""
        return (self.folder / RESULTS_FILE).exists()
