"""One exchange of messages with all sites: send a request, wait until a deadline, check every reply, count the quorum.

A quorum is the smallest number of valid replies with which a round counts, ``federation.min_sites``. For example, with
three sites and a quorum of two, one site may be away, fail or send an invalid reply; with two such sites the round ends
in an error that names both reasons.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from server.federation.aggregation import Aggregator
from shared_model.config.choices import PrivacyMode
from shared_model.config.server_sections import FederationConfig
from shared_model.errors import ProtocolError, RoundError
from shared_model.messages import (
    EvaluateReply,
    Request,
    TrainReply,
    pack_request,
    unpack_evaluate_reply,
    unpack_train_reply,
)
from shared_model.network.named_arrays import Parameters, require_same_structure
from shared_model.system.peer_text import peer_text

logger = logging.getLogger(__name__)


class SiteReply(Protocol):
    """What every reply says of itself."""

    @property
    def site(self) -> str:
        """Whose it is."""

    @property
    def server_round(self) -> int:
        """The round that it answers."""


Reply = TypeVar("Reply", bound=SiteReply)
_POLL_SECONDS, _SHORTEST_PAUSE_SECONDS = 0.2, 0.001
_MAX_FAILURES_CHARACTERS = 2000
"""Of all that went wrong in a round, so many characters stand in the error that ends it."""


@dataclass(frozen=True, kw_only=True)
class Exchange(Generic[Reply]):
    """What came of one request to all sites."""

    replies: tuple[Reply, ...]
    """The valid replies, ordered by the name of the site."""
    failures: tuple[str, ...]
    """One reason for every site without a valid reply, or for several that failed alike; a short, printable line."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """The same reasons by site, where it is known whose they are."""
    nodes: Mapping[str, int] = field(default_factory=dict)
    """Flower's ids of the connections from which the valid replies came, by site."""


def wait_for_sites(grid: Grid, federation: FederationConfig, *, for_all: bool) -> list[int]:
    """Return the ids of the connected nodes that belong to the federation.

    Args:
        grid: reaches the nodes.
        federation: sites, their nodes if these are enrolled, quorum and deadline.
        for_all: True waits until every site is connected, and only at the deadline is a quorum enough; False goes on as
            soon as a quorum is connected.

    Raises:
        RoundError: fewer than ``min_sites`` connected before the deadline.
    """
    deadline = time.monotonic() + federation.round_timeout_seconds
    enrolled = None if federation.node_ids is None else set(federation.node_ids)
    num_connected = -1
    while True:
        nodes = sorted(node for node in grid.get_node_ids() if enrolled is None or node in enrolled)
        is_late = time.monotonic() >= deadline
        num_wanted = len(federation.sites) if for_all and not is_late else federation.min_sites
        if len(nodes) >= num_wanted:
            return nodes
        if is_late:
            raise RoundError(
                f"Expected at least {federation.min_sites} sites within {federation.round_timeout_seconds:g} s, "
                f"{len(nodes)} connected."
            )
        if len(nodes) != num_connected:
            num_connected = len(nodes)
            logger.warning("%d of %d sites connected; waiting for others", num_connected, len(federation.sites))
        time.sleep(_POLL_SECONDS)


def train(
    grid: Grid,
    request: Request,
    nodes: Sequence[int],
    *,
    aggregator: Aggregator,
    check: Callable[[TrainReply], None] = lambda _: None,
) -> Exchange[TrainReply]:
    """Ask every site for an update of ``request.parameters``.

    Args:
        grid: reaches the sites.
        request: the round, its configuration and parameters; the same for all.
        nodes: Flower's ids of the sites' connections.
        aggregator: takes the update of every valid reply as it arrives; the replies returned have empty updates, so
            that a thousand of them fit the memory.
        check: called with every well-formed reply of a site; a ``ProtocolError`` that it raises refuses the reply.

    Raises:
        RoundError: fewer than ``federation.min_sites`` valid updates came before the deadline.
    """

    def accept(reply: TrainReply) -> TrainReply:
        """Pass the update on and keep the rest."""
        aggregator.add(reply.update, site=reply.site, num_patients=reply.num_patients_declared)
        return replace(reply, update={})

    reader = _Reader(unpack=unpack_train_reply, check=check, accept=accept, expected=request.parameters)
    return _exchange(grid, request, nodes, message_type=MessageType.TRAIN, reader=reader)


def sums(
    grid: Grid,
    request: Request,
    nodes: Sequence[int],
    *,
    message_type: str,
    expected: Parameters,
    check: Callable[[TrainReply], None] = lambda _: None,
) -> Exchange[TrainReply]:
    """Ask every site for sums over its training patients; the replies hold them as their updates.

    Args:
        grid: reaches the sites.
        request: the round, its configuration and parameters; the same for all.
        nodes: Flower's ids of the sites' connections.
        message_type: ``MEAN`` or ``SCORES``.
        expected: arrays of the names and shapes that a reply must have.
        check: as in ``train``.

    Raises:
        RoundError: fewer than ``federation.min_sites`` valid replies came before the deadline.
    """
    reader = _Reader(unpack=unpack_train_reply, check=check, accept=lambda reply: reply, expected=expected)
    return _exchange(grid, request, nodes, message_type=message_type, reader=reader)


@dataclass(frozen=True, kw_only=True)
class Step(Generic[Reply]):
    """One kind of message of a secure sum, and how its replies are read."""

    message_type: str
    unpack: Callable[[RecordDict], Reply]
    """Message content to reply; raises ``ProtocolError`` for anything else."""
    fewest: int
    """Valid replies with which the round goes on."""
    check: Callable[[Reply], None] = lambda _: None
    """Called with every well-formed reply; raises ``ProtocolError`` to refuse it."""


def sum_step(grid: Grid, request: Request, contents: Mapping[int, RecordDict], step: Step[Reply]) -> Exchange[Reply]:
    """Send messages of a secure sum, in which every site gets a content of its own.

    Args:
        grid: reaches the sites.
        request: the round and its configuration.
        contents: of the messages, by Flower's ids of the sites' connections.
        step: their kind.

    Raises:
        RoundError: fewer valid replies than ``step.fewest`` came before the deadline.
    """
    reader = _Reader(unpack=step.unpack, check=step.check, accept=lambda reply: reply)
    messages = [
        Message(content, node, step.message_type, group_id=str(request.server_round))
        for node, content in contents.items()
    ]
    return _exchange_messages(grid, request, messages, reader=reader, fewest=step.fewest)


def evaluate(grid: Grid, request: Request, nodes: Sequence[int]) -> Exchange[EvaluateReply]:
    """Ask every site for the score histograms of ``request.parameters``.

    Raises:
        RoundError: fewer than ``federation.min_sites`` valid replies came before the deadline.
    """
    evaluation = request.config.evaluation

    def unpack(content: RecordDict) -> EvaluateReply:
        """Read a reply with the kind of histogram that was asked for."""
        return unpack_evaluate_reply(content, evaluation=evaluation)

    reader = _Reader(unpack=unpack, check=lambda _: None, accept=lambda reply: reply)
    return _exchange(grid, request, nodes, message_type=MessageType.EVALUATE, reader=reader)


@dataclass(frozen=True, kw_only=True)
class _Reader(Generic[Reply]):
    """How a reply is read."""

    unpack: Callable[[RecordDict], Reply]
    """Message content to reply; raises ``ProtocolError`` for anything else."""
    check: Callable[[Reply], None]
    """Called with a reply that fits the request; raises ``ProtocolError`` to refuse it."""
    accept: Callable[[Reply], Reply]
    """Called with a reply that has passed every check; returns the part that is kept."""
    expected: Parameters = field(default_factory=dict)
    """Arrays of the names and shapes that the update of a train reply must have."""


def _exchange(
    grid: Grid, request: Request, nodes: Sequence[int], *, message_type: str, reader: _Reader[Reply]
) -> Exchange[Reply]:
    # One content for all: a grid copies or sends it, and a thousand copies of a network would not fit the memory.
    content = pack_request(request)
    messages = [Message(content, node, message_type, group_id=str(request.server_round)) for node in nodes]
    return _exchange_messages(grid, request, messages, reader=reader, fewest=request.config.federation.min_sites)


def _exchange_messages(
    grid: Grid, request: Request, messages: Sequence[Message], *, reader: _Reader[Reply], fewest: int
) -> Exchange[Reply]:
    federation, nodes = request.config.federation, [message.metadata.dst_node_id for message in messages]
    answers = _send_and_receive(grid, messages, seconds=federation.round_timeout_seconds)
    found = _read_answers(answers, request, reader)
    replies, failures = found.replies, found.failures
    _add_absences(found, federation, nodes)
    for failure in failures:
        logger.warning("Round %d: %s", request.server_round, failure)
    if len(replies) < fewest:
        raise RoundError(
            f"Expected at least {fewest} valid replies in round {request.server_round}, got "
            f"{len(replies)}: {peer_text('; '.join(failures), _MAX_FAILURES_CHARACTERS)}."
        )
    ordered = sorted(replies.values(), key=lambda reply: reply.site)
    return Exchange(replies=tuple(ordered), failures=tuple(failures), reasons=found.reasons, nodes=found.node_by_site)


def _send_and_receive(grid: Grid, messages: Sequence[Message], *, seconds: float) -> Iterator[Message]:
    """Send the messages and yield the answers as they arrive, until all are there or time has run out.

    Where a site loses its connection, Flower itself answers with an error. That is no answer of the site: the message
    is sent again as soon as the site is connected, and a site gives an equal request an equal reply. So who takes part
    in a round depends on the deadline alone, and not on who was just reconnecting, for instance after a restart of the
    server.
    """
    deadline = time.monotonic() + seconds
    waiting, undelivered = _push(grid, messages), list[Message]()
    pause = _SHORTEST_PAUSE_SECONDS
    while waiting or undelivered:
        is_late = time.monotonic() >= deadline
        undelivered = _send_again(grid, undelivered, waiting)
        arrived = []
        for answer in grid.pull_messages(set(waiting)):
            sent = waiting.pop(answer.metadata.reply_to_message_id, None)
            if sent is not None and answer.has_error() and answer.metadata.src_node_id != sent.metadata.dst_node_id:
                undelivered.append(sent)
            else:
                arrived.append(answer)
        yield from arrived
        if is_late:
            return
        if arrived:
            pause = _SHORTEST_PAUSE_SECONDS
        else:
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(2 * pause, _POLL_SECONDS)


def _push(grid: Grid, messages: Sequence[Message]) -> dict[str, Message]:
    """Send the messages and return them by the identifier that Flower gives them."""
    # All have the same content, so either all get an identifier or, being too large for Flower, none does.
    return dict(zip(grid.push_messages(messages), messages, strict=False))


def _send_again(grid: Grid, undelivered: Sequence[Message], waiting: dict[str, Message]) -> list[Message]:
    """Send those messages again whose node is back, add them to ``waiting``, and return the others."""
    connected = set(grid.get_node_ids()) if undelivered else set()
    again = [
        Message(message.content, node, message.metadata.message_type, group_id=message.metadata.group_id)
        for message in undelivered
        if (node := message.metadata.dst_node_id) in connected
    ]
    if again:
        waiting |= _push(grid, again)
    return [message for message in undelivered if message.metadata.dst_node_id not in connected]


@dataclass(frozen=True, kw_only=True)
class _Answers(Generic[Reply]):
    """The answers to one request."""

    replies: dict[str, Reply] = field(default_factory=dict)
    """The valid ones, by site."""
    failures: list[str] = field(default_factory=list)
    """Why each other was refused."""
    reasons: dict[str, str] = field(default_factory=dict)
    """The same by site, where the node is enrolled for one."""
    nodes: set[int] = field(default_factory=set)
    """Who answered."""
    node_by_site: dict[str, int] = field(default_factory=dict)
    """From where the valid replies came."""

    def refuse(self, who: str, reason: str, *, is_site: bool) -> None:
        """Add the reason for which there is no reply of ``who``."""
        self.failures.append(f"{who}: {reason}")
        if is_site:
            self.reasons[who] = reason


def _add_absences(found: _Answers[Reply], federation: FederationConfig, asked: Sequence[int]) -> None:
    """Add a line for the sites that were asked and are silent, and one for those that were not there."""
    names = site_names(federation)
    silent = [node for node in asked if node not in found.nodes]
    absent = [site for node, site in names.items() if node not in asked]
    for sites, count, reason in (
        ([names[node] for node in silent if node in names], len(silent), _silence(federation)),
        (absent, len(federation.sites) - len(asked), "not connected"),
    ):
        if count > 0:
            who = ", ".join(sites) or f"{count} site{'s' if count > 1 else ''}"
            found.failures.append(f"{who}: {reason}")
            found.reasons.update(dict.fromkeys(sites, reason))


def _silence(federation: FederationConfig) -> str:
    return f"no reply within {federation.round_timeout_seconds:g} s"


def site_names(federation: FederationConfig) -> dict[int, str]:
    """Return the sites by their nodes; empty where these are not enrolled, as in a simulation."""
    return {} if federation.node_ids is None else dict(zip(federation.node_ids, federation.sites, strict=True))


def _read_answers(answers: Iterable[Message], request: Request, reader: _Reader[Reply]) -> _Answers[Reply]:
    """Return the valid replies, and why each other answer was refused."""
    found, names = _Answers[Reply](), site_names(request.config.federation)
    for answer in answers:
        node = answer.metadata.src_node_id
        who, is_site = names.get(node, f"node {node}"), node in names
        found.nodes.add(node)
        try:
            reply = _read_answer(answer, request, reader)
            reader.check(reply)
        except ProtocolError as error:
            found.refuse(who, peer_text(str(error)), is_site=is_site)
            continue
        if reply.site in found.replies:
            found.refuse(who, f"a second reply of site {reply.site}", is_site=False)
        else:
            found.replies[reply.site] = reader.accept(reply)
            found.node_by_site[reply.site] = node
    return found


def _read_answer(answer: Message, request: Request, reader: _Reader[Reply]) -> Reply:
    """Return the reply in a message.

    Raises:
        ProtocolError: the site failed, or the reply is not one to this request from this site.
    """
    if answer.has_error():
        raise ProtocolError(peer_text(answer.error.reason or "") or "no reason given")
    reply = reader.unpack(answer.content)
    if reply.server_round != request.server_round:
        raise ProtocolError(f"Expected a reply for round {request.server_round}, got one for {reply.server_round}.")
    federation = request.config.federation
    if reply.site not in federation.sites:
        raise ProtocolError("Expected a site of federation.sites, got another name.")
    node_ids = federation.node_ids
    if node_ids is not None and node_ids[federation.sites.index(reply.site)] != answer.metadata.src_node_id:
        raise ProtocolError(f"Expected site {reply.site} to answer from the node that is enrolled for it.")
    if isinstance(reply, TrainReply):
        _check_update(reply, request, reader.expected)
    return reply


def _check_update(reply: TrainReply, request: Request, expected: Parameters) -> None:
    privacy = request.config.privacy
    if (reply.privacy is not None) != (privacy.mode is PrivacyMode.PATIENT):
        raise ProtocolError(f"Expected site {reply.site} to train with privacy={privacy.mode}, it did not.")
    try:
        require_same_structure(expected, reply.update)
    except ValueError as error:
        raise ProtocolError(f"Update of site {reply.site}: {error}") from error
