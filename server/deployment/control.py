"""What the coordinator asks a running SuperLink: to enrol its sites, and to start, list and stop runs."""

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from flwr.common.serde import user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.run_pb2 import Run
from flwr.supercore.control import ControlHttpClient

from server.deployment.bundle import build_bundle, digest_of
from server.deployment.kit import ServerKit
from server.deployment.superlink_access import SuperLinkAccess
from shared_model.errors import ConfigError, RoundError

logger = logging.getLogger(__name__)
_MAX_RUNS = 10_000
_MAX_REASON = 300
_UNREGISTERED = "unregistered"
_BEGUN = frozenset({"starting", "running"})


@dataclass(frozen=True, kw_only=True)
class FlowerRun:
    """A run as Flower knows it."""

    run_id: str
    status: str
    """For instance ``running`` or ``finished:failed``."""
    details: str
    """Of a run that failed, why."""
    submitted: str
    """Date and time (ISO 8601)."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.status.startswith("finished")


def submit_run(kit: ServerKit, overrides: Sequence[str]) -> str:
    """Submit a run of the code installed here with Hydra ``overrides``, and return its id.

    Raises:
        RoundError: the SuperLink does not answer, or refuses.
    """
    bundle = build_bundle()
    request = StartRunRequest(
        fab=Fab(hash_str=digest_of(bundle), content=bundle),
        override_config=user_config_to_proto({"overrides": shlex.join(overrides)}),
    )
    with _asked(kit, "to start the run") as superlink:
        reply = superlink.StartRun(request)
    if not reply.HasField("run_id"):
        raise RoundError("Expected the SuperLink to start the run: it gave no reason.")
    return str(reply.run_id)


def stop_run(kit: ServerKit, run_id: str) -> None:
    """Stop a run.

    Raises:
        RoundError: there is no such run, or the SuperLink does not answer.
    """
    if not run_id.isdecimal():
        raise RoundError(f"Expected the number of a run, got {run_id!r}; fedmammo server status lists them.")
    with _asked(kit, f"to stop run {run_id}") as superlink:
        superlink.StopRun(StopRunRequest(run_id=int(run_id)))


def list_runs(kit: ServerKit) -> list[FlowerRun]:
    """Return all runs in the order of their submission.

    Raises:
        RoundError: the SuperLink does not answer.
    """
    with _asked(kit, "to list the runs") as superlink:
        runs = superlink.ListRuns(ListRunsRequest(limit=_MAX_RUNS)).run_dict.values()
    return sorted(map(_flower_run, runs), key=lambda run: run.submitted)


def site_statuses(kit: ServerKit) -> dict[str, str]:
    """Return ``online``, ``offline`` or ``registered`` for every enrolled site.

    Raises:
        RoundError: the SuperLink does not answer.
    """
    with _asked(kit, "to list the sites") as superlink:
        by_node = {node.node_id: node.status for node in superlink.ListNodes(ListNodesRequest()).nodes_info}
    return {site: by_node.get(node, "unknown") for site, node in kit.node_ids().items()}


def enrol_sites(kit: ServerKit) -> None:
    """Enrol the sites of the kit by their keys, and remove every other node; a warning names each that is removed.

    Raises:
        ConfigError: the key of a site cannot be read, or was removed before, which Flower never takes back.
        RoundError: the SuperLink does not answer.
    """
    keys = kit.public_keys()
    with _asked(kit, "to enrol the sites") as superlink:
        nodes = {node.public_key: node for node in superlink.ListNodes(ListNodesRequest()).nodes_info}
        removed = [site for site, key in keys.items() if key in nodes and not _is_enrolled(nodes[key].status)]
        if removed:
            raise ConfigError(
                f"Expected the keys of {', '.join(removed)} to be enrolled, they were removed for good: give these "
                "sites new keys with fedmammo server provision --renew."
            )
        for key, node in nodes.items():
            if key not in keys.values() and _is_enrolled(node.status):
                logger.warning("Removed node %d %r: it was enrolled, and no kit has its key.", node.node_id, node.name)
                superlink.UnregisterNode(UnregisterNodeRequest(node_id=node.node_id))
        kit.write_node_ids(
            {
                site: nodes[key].node_id
                if key in nodes
                else superlink.RegisterNode(RegisterNodeRequest(public_key=key, name=site)).node_id
                for site, key in keys.items()
            }
        )


def stop_leftover_runs(kit: ServerKit) -> None:
    """Stop the runs that Flower takes for running although the server has only just started; a warning names each.

    Their processes ended with the server's last one, which may have been killed. Flower would wait for them for
    minutes, in which nobody could resume them.

    Raises:
        RoundError: the SuperLink does not answer.
    """
    for run in list_runs(kit):
        if run.status in _BEGUN:
            logger.warning("Run %s ended with the last server process; fedmammo server resume goes on.", run.run_id)
            stop_run(kit, run.run_id)


@contextmanager
def _asked(kit: ServerKit, what: str) -> Iterator[ControlHttpClient]:
    """Yield a client, and turn its errors into ours."""
    client = SuperLinkAccess.read(kit).control()
    try:
        yield client
    except httpx.HTTPStatusError as error:
        reason = " ".join(error.response.text.split())[:_MAX_REASON]
        raise RoundError(f"Expected the SuperLink {what}, it refused: {reason}") from error
    except httpx.HTTPError as error:
        raise RoundError(
            f"Expected the SuperLink {what}, nothing answers on {kit.local_address}; is fedmammo server start running?"
        ) from error
    finally:
        client.close()


def _is_enrolled(status: str) -> bool:
    return status != _UNREGISTERED


def _flower_run(run: Run) -> FlowerRun:
    parts = (run.status.status, run.status.sub_status)
    return FlowerRun(
        run_id=str(run.run_id),
        status=":".join(part for part in parts if part),
        details=run.status.details,
        submitted=run.pending_at,
    )
