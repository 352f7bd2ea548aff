"""A Flower grid inside this process: the real ClientApp, called in threads, without network or Ray.

Every site works on its own deep copy of a message, so that sites share no object, as they would not on a network.
"""

import copy
import logging
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity  # internal to Flower; this is the only module that needs it

from client.site import forget_simulated_sites

logger = logging.getLogger(__name__)
_SERVER_NODE = 1
_RUN_ID = 1
_CLIENT_FAILED = 2


class LocalGrid(Grid):
    """One node per simulated site; node ids follow the order of the sites."""

    def __init__(self, client_app: ClientApp, *, num_sites: int, num_workers: int) -> None:
        """Begin a grid of ``num_sites`` nodes, of which ``num_workers`` compute at the same time."""
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN_ID, _SERVER_NODE, 1
        self._client_app = client_app
        self._run = Run.create_empty(run_id=_RUN_ID)
        self._contexts = {_SERVER_NODE + 1 + i: _context(i, num_sites) for i in range(num_sites)}
        self._pool = ThreadPoolExecutor(num_workers, thread_name_prefix="site")
        self._replies: dict[str, Future[Message]] = {}

    def __enter__(self) -> "LocalGrid":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        forget_simulated_sites()

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message to one node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Sequence[int]:
        """Return the node ids in the order of the sites."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Sequence[str]:
        """Start every message's work and return the message ids."""
        ids = []
        for message in messages:
            identifier = str(uuid.uuid4())
            message.metadata.__dict__["_message_id"] = identifier
            self._replies[identifier] = self._pool.submit(self._deliver, message)
            ids.append(identifier)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Sequence[Message]:
        """Return the replies that are ready; each is handed out once."""
        ready = [identifier for identifier in message_ids if identifier in self._replies]
        return [self._replies.pop(identifier).result() for identifier in ready if self._replies[identifier].done()]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Sequence[Message]:
        """Return the replies that come within ``timeout`` seconds; None waits for all."""
        ids = self.push_messages(messages)
        wait([self._replies[identifier] for identifier in ids], timeout=timeout)
        return self.pull_messages(ids)

    def _deliver(self, message: Message) -> Message:
        copied = Message(
            copy.deepcopy(message.content),
            message.metadata.dst_node_id,
            message.metadata.message_type,
            group_id=message.metadata.group_id,
        )
        copied.metadata.__dict__["_message_id"] = message.metadata.message_id
        try:
            return self._client_app(copied, self._contexts[message.metadata.dst_node_id])
        except Exception:  # as Flower's own workers do: a client that raises is an error reply
            logger.exception("Site of node %d failed", message.metadata.dst_node_id)
            return Message(Error(code=_CLIENT_FAILED, reason="the client application raised"), reply_to=copied)


def _context(index: int, num_sites: int) -> Context:
    config = {"partition-id": index, "num-partitions": num_sites}
    return Context(run_id=_RUN_ID, node_id=index, node_config=dict(config), state=RecordDict(), run_config={})
