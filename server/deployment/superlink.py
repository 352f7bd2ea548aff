"""The coordinator's processes: Flower's SuperLink with TLS and enrolled sites, and the commands that talk to it."""

import json
import logging
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server.deployment.bundle import write_application
from server.deployment.certificates import certificate_days_left, require_signed_by
from server.deployment.kit import CONNECTION, Coordinator
from shared_model.errors import ConfigError, RoundError
from shared_model.system import processes
from shared_model.system.files import write_atomically

logger = logging.getLogger(__name__)

_START_SECONDS, _COMMAND_SECONDS = 300.0, 300.0
"""Long enough for a machine with ten times more to do than it has cores."""
_POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as Flower knows it."""

    run_id: str
    status: str
    """For instance ``running`` or ``finished:failed``."""
    elapsed_seconds: float

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.status.startswith("finished")


def serve(coordinator: Coordinator, *, stop: threading.Event, on_ready: Callable[[], None]) -> None:
    """Run the SuperLink, enrol the sites of the kits, and stay until ``stop`` is set.

    Args:
        coordinator: its folder.
        stop: set to end.
        on_ready: called once sites may connect.

    Raises:
        ConfigError: the certificate has expired or is another authority's, the SuperLink does not start, for instance
            as the port is taken, or a site cannot be enrolled.
    """
    _check_certificate(coordinator)
    process = _start(coordinator)
    try:
        if processes.wait_for_port(coordinator.port, process, seconds=_START_SECONDS, stop=stop):
            _enrol(coordinator)
            on_ready()
        elif not stop.is_set():
            raise ConfigError(f"Expected the SuperLink to open port {coordinator.port}; see {_log_path(coordinator)}.")
        while not stop.is_set():
            if process.poll() is not None:
                raise ConfigError(f"Expected the SuperLink to go on; see {_log_path(coordinator)}.")
            stop.wait(_POLL_SECONDS)
    finally:
        processes.end(process)


def submit(coordinator: Coordinator, overrides: Sequence[str]) -> str:
    """Submit a run with Hydra ``overrides`` and return its id.

    Raises:
        RoundError: the SuperLink is not there or refused.
    """
    run_config = coordinator.state_dir / "run_config.toml"
    # A TOML string is written as a JSON string is. On the command line Flower takes no quotes inside a string.
    write_atomically(run_config, f"overrides = {json.dumps(shlex.join(overrides))}\n".encode())
    with tempfile.TemporaryDirectory(dir=coordinator.state_dir, prefix="application-") as folder:
        write_application(Path(folder))
        reply = _flwr(coordinator, "run", folder, CONNECTION, "--run-config", str(run_config))
    return str(reply["run-id"])


def stop_run(coordinator: Coordinator, run_id: str) -> None:
    """Stop a run.

    Raises:
        RoundError: there is none such, or the SuperLink is not there.
    """
    _flwr(coordinator, "stop", run_id, CONNECTION)


def runs(coordinator: Coordinator) -> list[Run]:
    """Return all runs, the latest last.

    Raises:
        RoundError: the SuperLink is not there.
    """
    found = [
        Run(run_id=str(run["run-id"]), status=str(run["status"]), elapsed_seconds=float(run["elapsed"]))
        for run in _flwr(coordinator, "list", CONNECTION)["runs"]
    ]
    return sorted(found, key=lambda run: -run.elapsed_seconds)


def site_statuses(coordinator: Coordinator) -> dict[str, str]:
    """Return ``online``, ``offline`` or ``registered`` for every enrolled site.

    Raises:
        RoundError: the SuperLink is not there.
    """
    nodes = _flwr(coordinator, "supernode", "list", CONNECTION)["nodes"]
    by_node = {str(node["node-id"]): str(node["status"]) for node in nodes}
    return {site: by_node.get(str(node), "unknown") for site, node in coordinator.node_ids().items()}


def _start(coordinator: Coordinator) -> processes.Process:
    coordinator.flower_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    connection = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f"address = {json.dumps(coordinator.local_address)}\n"
        f"root-certificates = {json.dumps(str(coordinator.folder / 'ca.pem'))}\n"
    )
    write_atomically(coordinator.flower_home / "config.toml", connection.encode())
    command = processes.flower_command(
        "flower-superlink",
        *("--ssl-certfile", str(coordinator.folder / "server.pem")),
        *("--ssl-keyfile", str(coordinator.folder / "server.key")),
        *("--ssl-ca-certfile", str(coordinator.folder / "ca.pem")),
        *("--database", str(coordinator.state_dir / "superlink.db")),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        *("--host", "0.0.0.0"),  # noqa: S104, the sites are elsewhere
        *("--port", str(coordinator.port)),
    )
    environment = processes.flower_environment(coordinator.flower_home)
    # Flower puts the working folder on the path from which code is imported: it must be empty.
    folder = coordinator.state_dir / "empty"
    return processes.start(command, environment=environment, folder=folder, log=_log_path(coordinator))


def _check_certificate(coordinator: Coordinator) -> None:
    certificate, now = coordinator.folder / "server.pem", datetime.now(UTC)
    require_signed_by(certificate, coordinator.folder / "ca.pem")
    if certificate_days_left(certificate, now) <= 0:
        raise ConfigError(f"Expected {certificate} to be valid, it has expired; make new kits.")


def _enrol(coordinator: Coordinator) -> None:
    known = coordinator.node_ids()
    for site in coordinator.sites:
        if site not in known:
            key = coordinator.folder / "sites" / f"{site}.pub"
            try:
                reply = _flwr(coordinator, "supernode", "register", str(key), CONNECTION, "--name", site)
            except RoundError as error:
                raise ConfigError(f"Expected to enrol site {site} by its key {key}: {error}") from error
            known[site] = int(reply["node-id"])
            coordinator.write_node_ids(known)


def _flwr(coordinator: Coordinator, *arguments: str) -> dict[str, Any]:
    """Run one of Flower's own commands and return what it says.

    Raises:
        RoundError: it failed, or said nothing that can be read.
    """
    command = processes.flower_command("flwr", *arguments, "--format", "json")
    try:
        found = subprocess.run(  # noqa: S603, our own command
            command,
            cwd=coordinator.state_dir,
            env=processes.flower_environment(coordinator.flower_home),
            capture_output=True,
            check=False,
            timeout=_COMMAND_SECONDS,
        )
        reply = json.loads(found.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise RoundError(
            f"Expected the SuperLink to answer flwr {arguments[0]} on {coordinator.local_address}; is python -m server "
            "start running?"
        ) from error
    if not isinstance(reply, dict) or not reply.get("success"):
        reason = reply.get("error-message") if isinstance(reply, dict) else None
        raise RoundError(f"Expected flwr {arguments[0]} to succeed: {' '.join(str(reason).split())[:300]}")
    return reply


def _log_path(coordinator: Coordinator) -> Path:
    return coordinator.state_dir / "superlink.log"
