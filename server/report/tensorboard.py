"""A finished run as TensorBoard event files, to compare runs there; needs the extra ``tensorboard``."""

import importlib.util
from datetime import datetime
from pathlib import Path

from server.report.run_folder import CONFIG_FILE
from server.results.document import RESULTS_FILE, Results, read_results
from shared_model.errors import ConfigError

EVENTS_FOLDER = "tensorboard"
_ROUND_KEYS = ("auroc", "sensitivity", "specificity", "threshold", "epsilon", "num_sites", "failures", "seconds")


def write_events(folder: Path) -> Path:
    """Write the metrics by round, the final estimates with both ends of their intervals, configuration and privacy.

    Event files of an earlier call are replaced. What is null in the results has no point.

    Returns:
        The folder, for ``tensorboard --logdir``.

    Raises:
        ConfigError: the folder holds no finished run, or the extra is not installed.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError("Expected tensorboardX; install it with pip install 'federated-mammography[tensorboard]'.")
    try:
        results = read_results(folder / RESULTS_FILE)
        configuration = (folder / CONFIG_FILE).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"Expected a finished run in {folder}: {error}") from error
    target = folder / EVENTS_FOLDER
    for earlier in target.glob("events.out.tfevents.*"):
        earlier.unlink()
    _write(results, configuration, target)
    return target


def _write(results: Results, configuration: str, target: Path) -> None:
    from tensorboardX import SummaryWriter  # noqa: PLC0415, an extra

    now = datetime.fromisoformat(results.provenance.started).timestamp()
    with SummaryWriter(str(target)) as writer:
        for entry in results.rounds:
            now += entry.seconds
            for name in _ROUND_KEYS:
                value = getattr(entry, name)
                if value is not None:
                    writer.add_scalar(f"rounds/{name}", value, entry.round, walltime=now)
        for name, value in _final_values(results).items():
            writer.add_scalar(f"final/{name}", value, results.final.round, walltime=now)
        writer.add_text("configuration", f"```yaml\n{configuration}\n```", results.final.round, walltime=now)
        writer.add_text("privacy", results.privacy.statement, results.final.round, walltime=now)


def _final_values(results: Results) -> dict[str, float]:
    values: dict[str, float] = {}
    for level in () if results.evidence is None else results.evidence.levels:
        for estimate in level.figures:
            if estimate.value is not None:
                values[f"{level.level}/{estimate.name}"] = estimate.value
            if estimate.interval is not None:
                values[f"{level.level}/{estimate.name}/low"] = estimate.interval.low
                values[f"{level.level}/{estimate.name}/high"] = estimate.interval.high
    return values
