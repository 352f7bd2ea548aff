"""The state of a federation at one moment: which sites are there and what each run does, and what has changed since."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from server.deployment.control import FlowerRun, list_runs, site_statuses
from server.deployment.kit import ServerKit
from server.deployment.progress import Progress, read_progress, run_folder_of
from shared_model.errors import ConfigError

ONLINE = "online"
NEARLY_SPENT = 0.9
"""A run that has this share of the epsilon that it plans is worth a word to whoever runs it."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run as Flower knows it and as its files show it."""

    run: FlowerRun
    folder: Path | None
    """None where it was not submitted with this kit."""
    progress: Progress | None
    """None before it has begun."""

    @property
    def target_share(self) -> float:
        """Of the planned epsilon, the share that is spent; 0 without privacy."""
        progress = self.progress
        if progress is None or progress.epsilon is None or not progress.target_epsilon:
            return 0.0
        return progress.epsilon / progress.target_epsilon


@dataclass(frozen=True, kw_only=True)
class FederationStatus:
    """Sites and runs."""

    sites: Mapping[str, str]
    """``online``, ``offline`` or ``registered`` (it never connected) by site."""
    runs: tuple[RunStatus, ...]
    """In the order of their submission."""

    @property
    def away(self) -> tuple[str, ...]:
        """The sites that are not connected."""
        return tuple(site for site, status in self.sites.items() if status != ONLINE)


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that a person may want to be told."""

    event: str
    """``run-started``, ``run-finished``, ``run-failed``, ``run-stopped``, ``budget-nearly-spent``, ``site-online`` or
    ``site-offline``."""
    subject: str
    """The number of the run, or the name of the site."""
    details: str


def read_status(kit: ServerKit) -> FederationStatus:
    """Ask the SuperLink and read the files of the runs.

    Raises:
        RoundError: the SuperLink does not answer.
        ConfigError: the kit is damaged.
    """
    return FederationStatus(sites=site_statuses(kit), runs=tuple(_run_status(kit, run) for run in list_runs(kit)))


def changes(before: FederationStatus, after: FederationStatus) -> list[Change]:
    """Return what happened between two moments, runs first."""
    known = {status.run.run_id: status for status in before.runs}
    found = [change for status in after.runs for change in _run_changes(known.get(status.run.run_id), status)]
    for site, status in after.sites.items():
        was_online, is_online = before.sites.get(site) == ONLINE, status == ONLINE
        if was_online != is_online:
            found.append(Change(event=f"site-{ONLINE if is_online else 'offline'}", subject=site, details=status))
    return found


def _run_changes(before: RunStatus | None, after: RunStatus) -> list[Change]:
    found, folder = [], "" if after.folder is None else str(after.folder)
    if before is None:
        found.append(Change(event="run-started", subject=after.run.run_id, details=folder))
    if after.target_share >= NEARLY_SPENT and (before is None or before.target_share < NEARLY_SPENT):
        details = f"{after.target_share:.0%} of the epsilon of the run, {folder}"
        found.append(Change(event="budget-nearly-spent", subject=after.run.run_id, details=details))
    if after.run.is_finished and not (before is not None and before.run.is_finished):
        event = {"finished:completed": "run-finished", "finished:stopped": "run-stopped"}.get(
            after.run.status, "run-failed"
        )
        found.append(Change(event=event, subject=after.run.run_id, details=after.run.details or folder))
    return found


def _run_status(kit: ServerKit, run: FlowerRun) -> RunStatus:
    try:
        folder = run_folder_of(kit, run.run_id)
    except ConfigError:
        return RunStatus(run=run, folder=None, progress=None)
    progress = _final_progress(run.run_id, folder) if run.is_finished else read_progress(folder)
    return RunStatus(run=run, folder=folder, progress=progress)


@lru_cache(maxsize=10_000)
def _final_progress(_run_id: str, folder: Path) -> Progress | None:
    """Return how far a finished run has come; read once, since whoever watches asks every few seconds."""
    return read_progress(folder)
