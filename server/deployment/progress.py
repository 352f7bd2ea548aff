"""How far a run has come, from the files of its folder: what ``fedmammo server status`` and its page show."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from server.app import AUDIT_FILE
from server.deployment.kit import ServerKit
from server.report.run_folder import CONFIG_FILE
from shared_model.config.bounds import Text
from shared_model.config.choices import PrivacyMode
from shared_model.errors import ConfigError
from shared_model.system import audit_log
from shared_model.system.checked import build, checked
from shared_model.system.documents import from_json, to_json
from shared_model.system.files import write_atomically


@checked()
class Progress:
    """Of a run."""

    server_round: int
    """The last round that ended; 0 before the first has."""
    num_rounds: int | None
    """None where the configuration cannot be read."""
    num_sites: int | None
    """Whose updates the last round used."""
    epsilon: float | None
    """The price of the run so far at the site where it is largest; None without privacy."""
    target_epsilon: float | None
    """That the run plans; None without privacy, and where the configuration cannot be read."""


@checked()
class _RunFolder:
    """The content of ``ServerKit.run_folder_path``."""

    folder: Text


def write_run_folder(kit: ServerKit, run_id: str, folder: Path) -> None:
    """Remember where a run writes."""
    write_atomically(kit.run_folder_path(run_id), to_json(_RunFolder(folder=str(folder.resolve()))).encode())


def run_folder_of(kit: ServerKit, run_id: str) -> Path:
    """Return where the run with Flower's number ``run_id`` writes.

    Raises:
        ConfigError: it was not submitted with this kit.
    """
    if not run_id.isdecimal():
        raise ConfigError(f"Expected the folder or the number of a run, got {run_id!r}.")
    try:
        return Path(build(_RunFolder, from_json(kit.run_folder_path(run_id).read_bytes())).folder)
    except (OSError, ValueError, ConfigError) as error:
        raise ConfigError(
            f"Expected run {run_id} to be one of this kit's; fedmammo server status lists them."
        ) from error


def read_progress(folder: Path) -> Progress | None:
    """Return how far the run in ``folder`` has come; None where it has not begun, or its audit log is damaged."""
    try:
        lines = audit_log.read(folder / AUDIT_FILE)
    except (OSError, ConfigError):
        lines = ()
    if not lines:
        return None
    # A run that was resumed after it was killed may have repeated a round.
    rounds = [line.facts for line in lines if line.event == "round"]
    last: Mapping[str, object] = max(rounds, key=lambda facts: int(str(facts["round"])), default={})
    values = _configuration(folder)
    privacy = _section(values, "privacy")
    return build(
        Progress,
        {
            "server_round": last.get("round", 0),
            "num_rounds": _section(values, "training").get("num_rounds"),
            "num_sites": last.get("sites"),
            "epsilon": last.get("epsilon"),
            "target_epsilon": privacy.get("target_epsilon") if privacy.get("mode") == PrivacyMode.PATIENT else None,
        },
    )


def _configuration(folder: Path) -> object:
    try:
        return yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _section(values: object, name: str) -> Mapping[str, object]:
    section = values.get(name) if isinstance(values, Mapping) else None
    return section if isinstance(section, Mapping) else {}
