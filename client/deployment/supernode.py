"""A hospital's long-running process: Flower's SuperNode beside it, and the code installed here answers the requests.

Flower would run whatever code the coordinator sends. Here the SuperNode only carries messages: it runs as a child with
Flower's own process isolation, and this process takes each request from it. The received bundle is never unpacked; its
digest must be on the hospital's list, and the hospital's own installed ``client.app`` answers, at the front desk
(``client.deployment.desk``).
"""

import logging
import secrets
import sys
import threading
import time
from contextlib import suppress

import httpx
from flwr.clientapp import ClientApp
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from client.deployment.desk import Desk
from client.deployment.own_patients import remember_spellings
from client.deployment.pauses import Pauses
from client.deployment.site_file import SiteFile
from shared_model.errors import FederatedMammographyError
from shared_model.messages.object_pulls import pull_soon
from shared_model.system import processes
from shared_model.system.files import write_atomically

logger = logging.getLogger(__name__)

_LOG = "supernode.log"
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_LONGEST_POLL_SECONDS, _HEARTBEAT_SECONDS = 1.0, 20.0
_MAX_TRIES = 3
_START_SECONDS = 300.0
"""Long enough for a machine with ten times more to do than it has cores."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 2.0, 60.0
_STABLE_SECONDS = 120.0
"""A SuperNode that ran so long had connected; the next failure starts with a short pause again."""


def serve(site: SiteFile, app: ClientApp, *, stop: threading.Event) -> None:
    """Answer the coordinator's requests until ``stop`` is set.

    A SuperNode ends when the coordinator is down, or while the coordinator still counts the one before as connected. It
    is then started again, after a pause that doubles from two seconds up to a minute.

    Raises:
        ConfigError, TableError: the approved bundles, the policy, the tables or the audit log cannot be read.
        LedgerError: the ledger cannot be used.
        OSError: the state folder cannot be written.
    """
    pull_soon()
    site.approved()
    site.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    # So that the next start knows today's new patients.
    remember_spellings(site)
    desk = Desk.open(site, app)
    pause = _FIRST_PAUSE_SECONDS
    while not stop.is_set():
        started = time.monotonic()
        with _SuperNode.start(site) as node:
            node.serve(desk, stop=stop)
        if time.monotonic() - started > _STABLE_SECONDS:
            pause = _FIRST_PAUSE_SECONDS
        if not stop.is_set():
            log = site.state_dir / _LOG
            logger.warning("The SuperNode ended; see %s. Another is started in %.0f s.", log, pause)
            stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


class _SuperNode:
    """A running SuperNode process, and the local port on which this process takes messages from it."""

    def __init__(self, site: SiteFile, process: processes.Process, port: int, secret: bytes) -> None:
        self._site = site
        self._process = process
        self._port = port
        self._secret = secret

    @classmethod
    def start(cls, site: SiteFile) -> "_SuperNode":
        port, secret = processes.free_port(), secrets.token_bytes(32)
        secret_path = site.state_dir / "runtime.secret"
        write_atomically(secret_path, secret)
        command = (
            *(sys.executable, "-P", "-m", "client.deployment.flower_supernode"),
            *("--superlink", site.server),
            *("--root-certificates", str(site.authority)),
            *("--auth-supernode-private-key", str(site.key)),
            *("--isolation", "process"),
            *("--host", "127.0.0.1"),
            *("--port", str(port)),
            *("--superexec-auth-secret-file", str(secret_path)),
        )
        process = processes.start_process(
            command,
            environment=processes.flower_environment(site.state_dir / "flower"),
            # Flower puts the working folder on the path from which code is imported: it must be empty.
            folder=site.state_dir / "empty",
            log=site.state_dir / _LOG,
        )
        return cls(site, process, port, secret)

    def __enter__(self) -> "_SuperNode":
        return self

    def __exit__(self, *_: object) -> None:
        processes.stop_process(self._process)

    def serve(self, desk: Desk, *, stop: threading.Event) -> None:
        """Answer until ``stop`` is set or the SuperNode ends."""
        if not processes.wait_for_port(self._port, self._process, seconds=_START_SECONDS, stop=stop):
            return
        tasks = self._client(SuperExecAuthHttpInterceptor(master_secret=self._secret, protected_methods={_ACQUIRE}))
        pauses = Pauses(stop.wait)
        try:
            while not stop.is_set() and self._process.poll() is None:
                try:
                    acquired = tasks.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
                except (httpx.HTTPError, RuntimeError) as error:
                    logger.warning("The SuperNode did not take part: %s", error)
                else:
                    if acquired.HasField("task") and acquired.token:
                        if not self._has_answered(desk, acquired.token):
                            return
                        pauses.shorten()
                        continue
                pauses.sleep(_LONGEST_POLL_SECONDS)
        finally:
            tasks.close()

    def _has_answered(self, desk: Desk, token: str) -> bool:
        """Answer one task and return whether the SuperNode took the reply; if not, it would wait for it for ever."""
        try:
            self._answer_one(desk, token)
        except (OSError, FederatedMammographyError):
            raise  # the audit log or the list of approved bundles: an operator must look
        except Exception as error:  # noqa: BLE001, Flower raises plain exceptions too
            logger.warning("The SuperNode did not take the reply: %s", error)
            return False
        return True

    def _answer_one(self, desk: Desk, token: str) -> None:
        started = time.monotonic()
        client, done = self._client(RuntimeTokenHttpInterceptor(token)), threading.Event()
        heartbeat = threading.Thread(target=_beat, args=(self._client(RuntimeTokenHttpInterceptor(token)), done))
        heartbeat.start()
        try:
            message, context, run, bundle = pull_task_input(client)
            context.node_config = dict(self._site.node_config)
            reply = desk.answer(message, context, run_id=str(run.run_id), bundle=bundle.content)
            time.sleep(desk.seconds_to_wait(time.monotonic() - started))
            push_message(client, reply, context)
            push_task_output(client, context, SubStatus.COMPLETED, "")
        finally:
            done.set()
            heartbeat.join()
            client.close()

    def _client(self, *interceptors: ProtobufClientInterceptor) -> RuntimeHttpClient:
        retries = make_simple_http_retry_invoker()
        retries.max_tries = _MAX_TRIES
        return RuntimeHttpClient.from_server_address(
            server_address=f"127.0.0.1:{self._port}",
            insecure=True,
            root_certificates=None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), *interceptors],
            retry_invoker=retries,
        )


def _beat(client: RuntimeHttpClient, done: threading.Event) -> None:
    """Tell the SuperNode that the task is worked on; Flower's own sender never ends once a heartbeat has failed."""
    while not done.wait(_HEARTBEAT_SECONDS):
        with suppress(httpx.HTTPError, RuntimeError):
            client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    client.close()
