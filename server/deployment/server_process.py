"""The process of one run: run with ``python -m server.deployment.server_process``, the run's task on standard input.

Flower would unpack the bundle that was submitted and run its code. Here the installed ``server.app`` runs, and only for
a bundle that is made of the same code, byte for byte: what arrives is compared, never run.
"""

import logging
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import httpx
from flwr.common.config import get_fused_config_from_fab
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto, run_from_proto
from flwr.proto.runtime_pb2 import (
    PullTaskInputRequest,
    PullTaskInputResponse,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

import server.app
from server.deployment.bundle import bundle_digest, digest_of
from server.deployment.superlink_access import Task
from shared_model.errors import ConfigError, FederatedMammographyError
from shared_model.messages.object_pulls import pull_soon
from shared_model.system.terminal import log_to_stderr

logger = logging.getLogger(__name__)
_HEARTBEAT_SECONDS = 5.0
_MAX_DETAILS = 300


def run_task(task: Task) -> bool:
    """Run the installed server app for a task, tell Flower how it ended, and return whether it ended well."""
    client, grid = task.access.task(task.token), task.access.grid(task.token)
    done = threading.Event()
    heartbeat = threading.Thread(target=_beat, args=(task.access.task(task.token), done), daemon=True)
    heartbeat.start()
    status, details = SubStatus.FAILED, "ended at once"
    try:
        _run(grid, client.PullTaskInput(PullTaskInputRequest()))
        status, details = SubStatus.COMPLETED, ""
    except KeyboardInterrupt:
        status, details = SubStatus.STOPPED, "stopped"
    except (FederatedMammographyError, httpx.HTTPError, OSError) as error:
        details = str(error)
        logger.error("%s", error)  # noqa: TRY400, the reason is enough
    except Exception as error:
        details = f"{type(error).__name__}: {error}"
        logger.exception("The run failed")
    finally:
        done.set()
        with suppress(httpx.HTTPError):
            client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=details[:_MAX_DETAILS]))
        client.close()
        grid.close()
    return status == SubStatus.COMPLETED


def _run(grid: HttpGrid, received: PullTaskInputResponse) -> None:
    digest, own_digest = digest_of(received.fab.content), bundle_digest()
    if digest != own_digest:
        raise ConfigError(
            f"Expected the bundle {own_digest}, which is the code installed here, got {digest}: submit with "
            "fedmammo server run of the same installation."
        )
    run, context = run_from_proto(received.run), context_from_proto(received.context)
    TaskIdentity.task_id, TaskIdentity.run_id = received.task_id, run.run_id
    TaskIdentity.node_id = context.node_id
    grid.set_run(run)
    context.run_config = get_fused_config_from_fab(received.fab.content, run)
    server.app.app(grid, context)


def _beat(client: RuntimeHttpClient, done: threading.Event) -> None:
    """Tell Flower that the run goes on, and end it when Flower says that it was stopped."""
    while not done.wait(_HEARTBEAT_SECONDS):
        with suppress(httpx.HTTPError):
            if not client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success and not done.is_set():
                signal.raise_signal(signal.SIGINT)
    client.close()


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Run the task that stands on standard input."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    log_to_stderr(logging.INFO)
    pull_soon()
    sys.exit(0 if run_task(Task.from_bytes(sys.stdin.buffer.read())) else 1)


if __name__ == "__main__":
    main()
