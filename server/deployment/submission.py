"""A run from its submission to its results, as ``fedmammo server run`` and ``resume`` see it."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from server.deployment.control import submit_run
from server.deployment.follow import follow
from server.deployment.kit import ServerKit
from server.report.html_report import write_report
from server.report.run_display import RunDisplay, print_results
from server.report.run_folder import require_nobody_in
from server.results.document import RESULTS_FILE
from shared_model.config.composition import compose
from shared_model.config.overrides import override
from shared_model.errors import ConfigError
from shared_model.system.files import write_atomically

_OVERRIDES_FILE = "overrides.json"
"""Beside the results: what is submitted again when the run is resumed."""


def complete_overrides(overrides: Sequence[str], kit: ServerKit) -> list[str]:
    """Return the overrides of a new run with the enrolled sites, and with the run folder as an absolute path.

    Raises:
        ConfigError: not all sites are enrolled, or an override is wrong.
    """
    nodes = kit.node_ids()
    if set(nodes) != set(kit.sites):
        raise ConfigError("Expected all sites to be enrolled; is fedmammo server start running?")
    ids = ",".join(str(nodes[site]) for site in kit.sites)
    sites = [f"federation.sites=[{','.join(kit.sites)}]", f"federation.node_ids=[{ids}]"]
    # The application runs in a folder of its own.
    folder = Path(compose([*overrides, *sites]).run.dir).resolve()
    return [*overrides, *sites, override("run.dir", str(folder))]


def submitted_overrides(folder: Path) -> list[str]:
    """Return the overrides with which the run in ``folder`` was submitted.

    Raises:
        ConfigError: there is none.
    """
    try:
        overrides: list[str] = json.loads((folder / _OVERRIDES_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"Expected a run of fedmammo server run in {folder}: {error}") from error
    return overrides


def submit_and_follow(kit: ServerKit, overrides: Sequence[str], console: Console) -> None:
    """Submit a run, show its rounds and results, and write its report.

    Raises:
        ConfigError: an override is wrong, or the run folder holds the results of another run, or a run that goes on.
        RoundError: the SuperLink refused, or the run ended without results.
    """
    config = compose(overrides)
    folder = Path(config.run.dir)
    if (folder / RESULTS_FILE).exists():
        raise ConfigError(f"Expected run.dir={folder} without the results of another run; name a new folder.")
    require_nobody_in(folder)
    write_atomically(folder / _OVERRIDES_FILE, json.dumps(overrides).encode())
    run_id = submit_run(kit, overrides)
    console.print(f"Run {run_id} in {folder}", highlight=False, soft_wrap=True)
    with RunDisplay(config, console) as display:
        results = follow(kit, run_id, config, display)
    write_report(folder)
    print_results(results, config, console)
