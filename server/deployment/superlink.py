"""Flower's SuperLink, the process to which all sites connect, and the runs that it hands out.

This process starts the SuperLink as a child behind our gate, enrols the sites, and takes the runs that Flower hands
out: each becomes a child too, in which the installed ``server.app`` runs.
"""

import ipaddress
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.runtime import RuntimeHttpClient

from server.deployment import flower_superlink
from server.deployment.certificates import (
    certificate_days_left,
    require_key_of,
    require_made_out_to,
    require_signed_by,
)
from server.deployment.control import enrol_sites, stop_leftover_runs
from server.deployment.kit import ServerKit
from server.deployment.private_keys import SERVER_PASSPHRASE, load_private_key
from server.deployment.superlink_access import SuperLinkAccess, Task
from shared_model.errors import ConfigError
from shared_model.system import processes
from shared_model.system.files import owner_only
from shared_model.system.process_lock import ProcessLock

logger = logging.getLogger(__name__)
_START_SECONDS = 300.0
"""Long enough for a machine with ten times more to do than it has cores."""
_POLL_SECONDS = 0.2
_BEAT_SECONDS = 5.0
_SERVER_PROCESS = "server.deployment.server_process"
"""Not imported here: this process needs no network."""


@owner_only()
def serve(
    kit: ServerKit,
    *,
    stop: threading.Event,
    on_ready: Callable[[], None],
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Run the SuperLink, enrol the sites of the kits, and run what is submitted, until ``stop`` is set.

    Args:
        kit: of the server.
        stop: set to end.
        on_ready: called once sites may connect.
        on_poll: called several times a second from then on.

    Raises:
        ConfigError: the certificate has expired or is another authority's or host's, its key cannot be read, the kit is
            in use, the port is taken, the SuperLink does not start, or a site cannot be enrolled.
        RoundError: the SuperLink does not answer.
    """
    _check_certificate(kit)
    kit.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        stack.enter_context(ProcessLock.take(kit.state_dir / "server.lock"))
        _require_free_port(kit)
        access = SuperLinkAccess.create(kit)
        process = _start(kit, access)
        stack.callback(processes.stop_process, process)
        if processes.wait_for_port(kit.port, process, seconds=_START_SECONDS, stop=stop):
            enrol_sites(kit)
            stop_leftover_runs(kit)
            on_ready()
        elif not stop.is_set():
            raise ConfigError(f"Expected the SuperLink to open port {kit.port}; see {_log_path(kit)}.")
        runs = stack.enter_context(closing(_Runs(kit, access)))
        while not stop.is_set():
            if process.poll() is not None:
                raise ConfigError(f"Expected the SuperLink to go on; see {_log_path(kit)}.")
            runs.take_next()
            on_poll()
            stop.wait(_POLL_SECONDS)


@dataclass(kw_only=True)
class _Run:
    """A run that was handed out, its process, and a client that speaks for its task."""

    process: processes.Process
    client: RuntimeHttpClient
    next_beat: float = -math.inf

    def beat(self) -> None:
        """Tell Flower, now and then, that the run goes on.

        Flower hands a run out again when it hears nothing for 30 seconds. On a busy machine the process takes longer to
        start, and each further one would start later still.
        """
        now = time.monotonic()
        if now < self.next_beat:
            return
        with suppress(httpx.HTTPError, RuntimeError):
            self.client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        self.next_beat = now + _BEAT_SECONDS


class _Runs:
    """The runs that were handed out, each in a process of its own."""

    def __init__(self, kit: ServerKit, access: SuperLinkAccess) -> None:
        self._kit, self._access = kit, access
        self._client: RuntimeHttpClient = access.tasks()
        self._running: list[_Run] = []

    def take_next(self) -> None:
        """Start the next run that was submitted, if there is one; speak for those whose process lives."""
        ended = [run for run in self._running if run.process.poll() is not None]
        self._running = [run for run in self._running if run not in ended]
        for run in ended:
            run.client.close()
        for run in self._running:
            run.beat()
        try:
            acquired = self._client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
        except (httpx.HTTPError, RuntimeError) as error:
            logger.warning("The SuperLink hands out no run: %s", error)
            return
        if acquired.HasField("task") and acquired.token:
            self._start(str(acquired.task.run_id), Task(token=acquired.token, access=self._access))

    def close(self) -> None:
        """Stop the runs that go on; each can be resumed."""
        for run in self._running:
            processes.stop_process(run.process)
            run.client.close()
        self._client.close()

    def _start(self, run_id: str, task: Task) -> None:
        log = self._kit.run_log(run_id)
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # First, as it reads the authority's certificate: a process that is not among the runs would never be stopped.
        client = self._access.heartbeats(task.token)
        process = processes.start_process(
            (sys.executable, "-P", "-m", _SERVER_PROCESS),
            environment=processes.flower_environment(self._kit.flower_home),
            folder=_empty_folder(self._kit),
            log=log,
            stdin=task.to_bytes(),
        )
        self._running.append(_Run(process=process, client=client))


def listening_addresses(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return where a server listens that others reach at ``hosts``: on loopback alone if nobody else can be meant.

    >>> listening_addresses(["server.example.org", "localhost"])
    ('0.0.0.0', '::')
    >>> listening_addresses(["localhost", "::1"])
    ('127.0.0.1', '::1')
    """
    return ("127.0.0.1", "::1") if all(map(_is_loopback, hosts)) else ("0.0.0.0", "::")  # noqa: S104, sites elsewhere


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _start(kit: ServerKit, access: SuperLinkAccess) -> processes.Process:
    kit.flower_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = (
        *(sys.executable, "-P", "-m", flower_superlink.__name__),
        *("--ssl-certfile", str(kit.folder / "server.pem")),
        *("--ssl-keyfile", str(kit.folder / "server.key")),
        *("--ssl-ca-certfile", str(kit.folder / "ca.pem")),
        *("--database", str(kit.state_dir / "superlink.db")),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        # Flower then starts no process that would run the bundles that arrive.
        *("--isolation", "process"),
        *("--superexec-auth-secret-file", str(kit.secret_path)),
        *("--port", str(kit.port)),
    )
    settings = flower_superlink.Settings(
        secret=access.secret,
        addresses=listening_addresses(kit.hosts),
        public_keys=tuple(key.decode() for key in kit.public_keys().values()),
    )
    return processes.start_process(
        command,
        environment=processes.flower_environment(kit.flower_home),
        folder=_empty_folder(kit),
        log=_log_path(kit),
        stdin=settings.to_bytes(),
    )


def _require_free_port(kit: ServerKit) -> None:
    try:
        for found in flower_superlink.listening_sockets(listening_addresses(kit.hosts), kit.port):
            found.close()
    except OSError as error:
        raise ConfigError(
            f"Expected port {kit.port} to be free: {error.strerror}. Another program listens there; stop it, or give "
            "the kit another port."
        ) from error


def _check_certificate(kit: ServerKit) -> None:
    certificate, now = kit.folder / "server.pem", datetime.now(UTC)
    require_signed_by(certificate, kit.folder / "ca.pem")
    key = load_private_key(kit.folder / "server.key", variable=SERVER_PASSPHRASE)
    remedy = "make another with fedmammo server provision --renew-certificate."
    try:
        require_key_of(certificate, key)
        require_made_out_to(certificate, kit.hosts)
    except ConfigError as error:
        raise ConfigError(f"{error} Copy what belongs together, or {remedy}") from error
    if certificate_days_left(certificate, now) <= 0:
        raise ConfigError(f"Expected {certificate} to be valid, it has expired; {remedy}")


def _empty_folder(kit: ServerKit) -> Path:
    """Return the working folder of children: Flower imports code from there first, so it must be empty."""
    return kit.state_dir / "empty"


def _log_path(kit: ServerKit) -> Path:
    return kit.state_dir / "superlink.log"
