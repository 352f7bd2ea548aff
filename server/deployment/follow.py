"""Follow a run from outside: another process trains, and this one reads the files that appear in the run folder."""

import logging
import time
from pathlib import Path

from server.deployment.control import FlowerRun, list_runs
from server.deployment.kit import ServerKit
from server.federation.checkpoints import read_checkpoint
from server.report.run_display import RunDisplay
from server.report.run_folder import FAILURE_FILE
from server.results.document import RESULTS_FILE, Results, read_results
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import ConfigError, RoundError

logger = logging.getLogger(__name__)
_POLL_SECONDS = 0.5
_STATUS_SECONDS = 10.0
"""Between two questions to Flower whether the run still goes on."""


def follow(kit: ServerKit, run_id: str | None, config: ExperimentConfig, display: RunDisplay) -> Results:
    """Show the rounds of a run as they finish, and return its results.

    Where the SuperLink does not answer, that is said once, and the run is followed by its files alone.

    Args:
        kit: of the server.
        run_id: Flower's number of the run; None where it is not known.
        config: of the run.
        display: to show rounds on.

    Raises:
        RoundError: the run ended without results; the message says why.
    """
    folder, num_shown = Path(config.run.dir), 0
    last_check, has_warned = time.monotonic(), False
    while not (folder / RESULTS_FILE).exists():
        num_shown = _show_new_rounds(folder, config, display, num_shown)
        if time.monotonic() - last_check > _STATUS_SECONDS:
            last_check = time.monotonic()
            runs = None if run_id is None else _runs(kit, warn=not has_warned)
            has_warned = runs is None
            if runs is not None:
                _require_unfinished(next((run for run in runs if run.run_id == run_id), None), folder)
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


def _runs(kit: ServerKit, *, warn: bool) -> list[FlowerRun] | None:
    try:
        return list_runs(kit)
    except RoundError as error:
        if warn:
            logger.warning("%s The run is followed by its files.", error)
        return None


def _require_unfinished(run: FlowerRun | None, folder: Path) -> None:
    failure = folder / FAILURE_FILE
    if run is None:
        raise RoundError(f"Expected the SuperLink to know the run in {folder}; fedmammo server status lists its runs.")
    if run.is_finished and not (folder / RESULTS_FILE).exists():
        if failure.exists():
            raise RoundError(failure.read_text(encoding="utf-8"))
        said = f"{run.status}: {run.details}" if run.details else run.status
        raise RoundError(f"Expected results in {folder}: Flower says {said}; fedmammo server resume goes on.")
