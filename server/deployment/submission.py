"""A run from its submission to its results, as ``fedmammo server run``, ``resume`` and ``follow`` see it."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from server.deployment.bundle import bundle_digest
from server.deployment.control import list_runs, submit_run
from server.deployment.follow import follow
from server.deployment.kit import ServerKit
from server.deployment.progress import run_folder_of, write_run_folder
from server.evaluation.shipped_constants import load_shipped
from server.report.html_report import REPORT_FILE, write_report
from server.report.run_display import RunDisplay, print_results
from server.report.run_folder import require_nobody_in
from server.results.document import RESULTS_FILE
from shared_model.config.composition import compose, compose_received
from shared_model.config.constants_rule import constants_advice
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.overrides import override
from shared_model.errors import ConfigError, RoundError
from shared_model.system.checked import build, checked
from shared_model.system.documents import from_json, to_json
from shared_model.system.files import write_atomically

_POLL_SECONDS = 0.5
_SUBMISSION_FILE = "submission.json"
"""Beside the results: what is submitted again when the run is resumed, and the run that follows it."""


@checked()
class Submission:
    """What was submitted."""

    overrides: tuple[str, ...]
    run_id: str | None
    """Flower's number of the run; None while it is being submitted."""


def complete_overrides(overrides: Sequence[str], kit: ServerKit) -> list[str]:
    """Return the overrides of a new run with the enrolled sites, and with absolute paths.

    Raises:
        ConfigError: not all sites are enrolled, or an override is wrong.
    """
    nodes = kit.node_ids()
    missing = [site for site in kit.sites if site not in nodes]
    if missing:
        raise ConfigError(
            f"Expected all sites to be enrolled, {', '.join(missing)} are not; is fedmammo server start running?"
        )
    ids = ",".join(str(nodes[site]) for site in kit.sites)
    sites = [f"federation.sites=[{','.join(kit.sites)}]", f"federation.node_ids=[{ids}]"]
    # As the process of the run will read them, which works in a folder of its own.
    config = compose_received(shlex.join([*overrides, *sites]))
    paths = [override("run.dir", str(Path(config.run.dir).resolve()))]
    if config.model.constants_file is not None:
        paths.append(override("model.constants_file", str(Path(config.model.constants_file).resolve())))
    return [*overrides, *sites, *paths]


def read_submission(folder: Path) -> Submission:
    """Return what was submitted for the run in ``folder``.

    Raises:
        ConfigError: nothing was.
    """
    try:
        return build(Submission, from_json((folder / _SUBMISSION_FILE).read_bytes()))
    except (OSError, ValueError, ConfigError) as error:
        raise ConfigError(f"Expected a run of fedmammo server run in {folder}: {error}") from error


def submit_and_follow(kit: ServerKit, overrides: Sequence[str], console: Console) -> None:
    """Submit a run, show its rounds and results, and see to its report.

    Raises:
        ConfigError: an override or the file of constants is wrong, the code is not what the sites have approved, or the
            run folder holds the results of another run, or a run that goes on.
        RoundError: the SuperLink refused, or the run ended without results.
    """
    config = compose(overrides)
    folder = Path(config.run.dir)
    if (folder / RESULTS_FILE).exists():
        raise ConfigError(f"Expected run.dir={folder} without the results of another run; name a new folder.")
    _require_approved(kit)
    _require_ended(kit, folder)
    load_shipped(config)
    _print_advice(config, None, console)
    _write_submission(folder, overrides, run_id=None)
    run_id = submit_run(kit, overrides)
    _write_submission(folder, overrides, run_id=run_id)
    write_run_folder(kit, run_id, folder)
    console.print(f"Run {run_id} in {folder}", highlight=False, soft_wrap=True)
    _follow(kit, run_id, config, console)


def follow_to_report(kit: ServerKit, run: Path, console: Console) -> None:
    """Show the rounds and results of a run that was submitted, and see to its report.

    Args:
        kit: of the server.
        run: its folder, or its number as ``fedmammo server status`` gives it.
        console: to show it on.

    Raises:
        ConfigError: there is no such run.
        RoundError: it ended without results.
    """
    submission = read_submission(run if run.is_dir() else run_folder_of(kit, str(run)))
    _follow(kit, submission.run_id, compose(submission.overrides), console)


def _follow(kit: ServerKit, run_id: str | None, config: ExperimentConfig, console: Console) -> None:
    folder = Path(config.run.dir)
    with RunDisplay(config, console) as display:
        results = follow(kit, run_id, config, display)
    # The process of the run writes the report after the results; unless it was killed in between.
    while not (folder / REPORT_FILE).exists() and _goes_on(kit, run_id):
        time.sleep(_POLL_SECONDS)
    if not (folder / REPORT_FILE).exists():
        write_report(folder)
    print_results(results, config, console)
    _print_advice(config, sum(site.num_patients_declared for site in results.sites), console)


def _print_advice(config: ExperimentConfig, num_patients: int | None, console: Console) -> None:
    advice = constants_advice(config, num_patients)
    if advice is not None:
        console.print(advice, highlight=False, markup=False, soft_wrap=True)


def _goes_on(kit: ServerKit, run_id: str | None) -> bool:
    """Return whether Flower says so; False where it cannot be asked."""
    try:
        return any(run.run_id == run_id and not run.is_finished for run in list_runs(kit))
    except RoundError:
        return False


def _require_approved(kit: ServerKit) -> None:
    digest = bundle_digest()
    if kit.bundle not in {None, digest}:
        raise ConfigError(
            f"Expected the code that the kits were made with, bundle {kit.bundle}; this installation makes {digest}, "
            "which sites refuse. Have every site approve it (approved_bundles.txt), then write it into server.yaml."
        )


def _require_ended(kit: ServerKit, folder: Path) -> None:
    """Check that no run goes on in the folder, and that none waits to begin there."""
    require_nobody_in(folder)
    if not (folder / _SUBMISSION_FILE).exists():
        return
    run_id = read_submission(folder).run_id
    if _goes_on(kit, run_id):
        raise ConfigError(f"Expected run {run_id} in {folder} to have ended; fedmammo server follow {folder} shows it.")


def _write_submission(folder: Path, overrides: Sequence[str], *, run_id: str | None) -> None:
    submission = Submission(overrides=tuple(overrides), run_id=run_id)
    write_atomically(folder / _SUBMISSION_FILE, to_json(submission).encode())
