"""Flower's SuperLink, the process to which all sites connect: started with TLS, its sites enrolled, and asked for runs.

Runs are submitted, listed and stopped by Flower's own command ``flwr``, whose JSON output is read here.
"""

import json
import logging
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server.deployment.bundle import write_application
from server.deployment.certificates import certificate_days_left, require_signed_by
from server.deployment.kit import CONNECTION, ServerKit
from shared_model.errors import ConfigError, RoundError
from shared_model.system import processes
from shared_model.system.files import write_atomically

logger = logging.getLogger(__name__)

_START_SECONDS, _COMMAND_SECONDS = 300.0, 300.0
"""Long enough for a machine with ten times more to do than it has cores."""
_POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class FlowerRun:
    """A run as Flower knows it."""

    run_id: str
    status: str
    """For instance ``running`` or ``finished:failed``."""
    elapsed_seconds: float

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.status.startswith("finished")


def serve(kit: ServerKit, *, stop: threading.Event, on_ready: Callable[[], None]) -> None:
    """Run the SuperLink, enrol the sites of the kits, and stay until ``stop`` is set.

    Args:
        kit: of the server.
        stop: set to end.
        on_ready: called once sites may connect.

    Raises:
        ConfigError: the certificate has expired or is another authority's, the SuperLink does not start, for instance
            as the port is taken, or a site cannot be enrolled.
    """
    _check_certificate(kit)
    process = _start(kit)
    try:
        if processes.wait_for_port(kit.port, process, seconds=_START_SECONDS, stop=stop):
            _enrol(kit)
            on_ready()
        elif not stop.is_set():
            raise ConfigError(f"Expected the SuperLink to open port {kit.port}; see {_log_path(kit)}.")
        while not stop.is_set():
            if process.poll() is not None:
                raise ConfigError(f"Expected the SuperLink to go on; see {_log_path(kit)}.")
            stop.wait(_POLL_SECONDS)
    finally:
        processes.stop_process(process)


def submit_run(kit: ServerKit, overrides: Sequence[str]) -> str:
    """Submit a run with Hydra ``overrides`` and return its id.

    Raises:
        RoundError: the SuperLink does not answer, or refuses.
    """
    run_config = kit.state_dir / "run_config.toml"
    # A TOML string is written as a JSON string is. On the command line Flower takes no quotes inside a string.
    write_atomically(run_config, f"overrides = {json.dumps(shlex.join(overrides))}\n".encode())
    with tempfile.TemporaryDirectory(dir=kit.state_dir, prefix="application-") as folder:
        write_application(Path(folder))
        reply = _flwr(kit, "run", folder, CONNECTION, "--run-config", str(run_config))
    return str(reply["run-id"])


def stop_run(kit: ServerKit, run_id: str) -> None:
    """Stop a run.

    Raises:
        RoundError: there is no such run, or the SuperLink does not answer.
    """
    _flwr(kit, "stop", run_id, CONNECTION)


def list_runs(kit: ServerKit) -> list[FlowerRun]:
    """Return all runs, the latest last.

    Raises:
        RoundError: the SuperLink does not answer.
    """
    flower_runs = [
        FlowerRun(run_id=str(run["run-id"]), status=str(run["status"]), elapsed_seconds=float(run["elapsed"]))
        for run in _flwr(kit, "list", CONNECTION)["runs"]
    ]
    return sorted(flower_runs, key=lambda run: -run.elapsed_seconds)


def site_statuses(kit: ServerKit) -> dict[str, str]:
    """Return ``online``, ``offline`` or ``registered`` for every enrolled site.

    Raises:
        RoundError: the SuperLink does not answer.
    """
    nodes = _flwr(kit, "supernode", "list", CONNECTION)["nodes"]
    by_node = {str(node["node-id"]): str(node["status"]) for node in nodes}
    return {site: by_node.get(str(node), "unknown") for site, node in kit.node_ids().items()}


def _start(kit: ServerKit) -> processes.Process:
    kit.flower_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    connection = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f"address = {json.dumps(kit.local_address)}\n"
        f"root-certificates = {json.dumps(str(kit.folder / 'ca.pem'))}\n"
    )
    write_atomically(kit.flower_home / "config.toml", connection.encode())
    command = _flower_command(
        "flower-superlink",
        *("--ssl-certfile", str(kit.folder / "server.pem")),
        *("--ssl-keyfile", str(kit.folder / "server.key")),
        *("--ssl-ca-certfile", str(kit.folder / "ca.pem")),
        *("--database", str(kit.state_dir / "superlink.db")),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        *("--host", "0.0.0.0"),  # noqa: S104, the sites are elsewhere
        *("--port", str(kit.port)),
    )
    environment = processes.flower_environment(kit.flower_home)
    # Flower imports code from the working folder first, so it must be empty.
    folder = kit.state_dir / "empty"
    return processes.start_process(command, environment=environment, folder=folder, log=_log_path(kit))


def _check_certificate(kit: ServerKit) -> None:
    certificate, now = kit.folder / "server.pem", datetime.now(UTC)
    require_signed_by(certificate, kit.folder / "ca.pem")
    if certificate_days_left(certificate, now) <= 0:
        raise ConfigError(f"Expected {certificate} to be valid, it has expired; make new kits.")


def _enrol(kit: ServerKit) -> None:
    node_ids = kit.node_ids()
    for site in kit.sites:
        if site not in node_ids:
            key = kit.folder / "sites" / f"{site}.pub"
            try:
                reply = _flwr(kit, "supernode", "register", str(key), CONNECTION, "--name", site)
            except RoundError as error:
                raise ConfigError(f"Expected to enrol site {site} by its key {key}: {error}") from error
            node_ids[site] = int(reply["node-id"])
            kit.write_node_ids(node_ids)


def _flwr(kit: ServerKit, *arguments: str) -> dict[str, Any]:
    """Run one of Flower's own commands and return the JSON object that it prints.

    Raises:
        RoundError: it failed, or printed no JSON.
    """
    command = _flower_command("flwr", *arguments, "--format", "json")
    try:
        finished = subprocess.run(  # noqa: S603, our own command
            command,
            cwd=kit.state_dir,
            env=processes.flower_environment(kit.flower_home),
            capture_output=True,
            check=False,
            timeout=_COMMAND_SECONDS,
        )
        reply = json.loads(finished.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise RoundError(
            f"Expected the SuperLink to answer flwr {arguments[0]} on {kit.local_address}; is fedmammo server "
            "start running?"
        ) from error
    if not isinstance(reply, dict) or not reply.get("success"):
        reason = reply.get("error-message") if isinstance(reply, dict) else None
        raise RoundError(f"Expected flwr {arguments[0]} to succeed: {' '.join(str(reason).split())[:300]}")
    return reply


def _flower_command(name: str, *arguments: str) -> Sequence[str]:
    """Return the command of the Flower that is installed beside this Python."""
    return (sys.executable, str(Path(sys.executable).with_name(name)), *arguments)


def _log_path(kit: ServerKit) -> Path:
    return kit.state_dir / "superlink.log"
