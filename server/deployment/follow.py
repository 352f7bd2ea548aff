"""Follow a run from outside: another process trains, and this one reads the files that appear in the run folder."""

import time
from pathlib import Path

from server.deployment.control import list_runs
from server.deployment.kit import ServerKit
from server.federation.checkpoints import read_checkpoint
from server.report.run_display import RunDisplay
from server.report.run_folder import FAILURE_FILE
from server.results.document import RESULTS_FILE, Results, read_results
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import ConfigError, RoundError

_POLL_SECONDS = 0.5
_STATUS_SECONDS = 10.0
"""Between two questions to Flower whether the run still goes on: its command takes two seconds of CPU."""


def follow(kit: ServerKit, run_id: str, config: ExperimentConfig, display: RunDisplay) -> Results:
    """Show the rounds of a run as they finish, and return its results.

    Raises:
        RoundError: the run ended without results; the message says why.
    """
    folder, num_shown = Path(config.run.dir), 0
    last_check = time.monotonic()
    while not (folder / RESULTS_FILE).exists():
        num_shown = _show_new_rounds(folder, config, display, num_shown)
        if time.monotonic() - last_check > _STATUS_SECONDS:
            last_check = time.monotonic()
            _require_unfinished(kit, run_id, folder)
        time.sleep(_POLL_SECONDS)
    results = read_results(folder / RESULTS_FILE)
    for result in results.rounds[num_shown:]:
        display.on_round(result)
    return results


def _show_new_rounds(folder: Path, config: ExperimentConfig, display: RunDisplay, num_shown: int) -> int:
    try:
        checkpoint = read_checkpoint(folder, config)
    except ConfigError:
        # The checkpoint of another run in the same folder: the run itself refuses it and says so.
        return num_shown
    rounds = () if checkpoint is None else checkpoint.rounds
    for result in rounds[num_shown:]:
        display.on_round(result)
    return max(num_shown, len(rounds))


def _require_unfinished(kit: ServerKit, run_id: str, folder: Path) -> None:
    run = next((run for run in list_runs(kit) if run.run_id == run_id), None)
    if run is None:
        raise RoundError(f"Expected the SuperLink to know run {run_id}; fedmammo server status lists its runs.")
    if run.is_finished and not (folder / RESULTS_FILE).exists():
        failure = folder / FAILURE_FILE
        if failure.exists():
            raise RoundError(failure.read_text(encoding="utf-8"))
        raise RoundError(f"Expected results in {folder}: Flower says {run.status}; fedmammo server resume goes on.")
