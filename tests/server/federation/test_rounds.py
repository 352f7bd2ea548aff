"""Whole trainings over a grid that answers at once: who is waited for, round by round."""

import pytest
from flwr.app import Error, Message
from flwr.serverapp import Grid

from server.federation.rounds import federate
from shared_model.config.composition import compose
from shared_model.messages import PrivacySpent, TrainReply, pack_train_reply, unpack_request

NODES = (11, 12, 13)
SITES = ("MGH", "WFU", "ISMD")


class InstantGrid(Grid):
    """Every site answers at once; ``connected`` are the nodes, one set a poll, the last for good."""

    def __init__(self, connected, *, refuses=()):
        self.connected = list(connected)
        self.refuses = set(refuses)
        """Pairs of round and node."""
        self.asked = {}
        """Nodes by round."""
        self.answers = {}

    def set_run(self, run):
        """Set nothing."""

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        raise NotImplementedError

    def get_node_ids(self):
        return self.connected.pop(0) if len(self.connected) > 1 else self.connected[0]

    def push_messages(self, messages):
        for number, message in enumerate(messages, start=len(self.answers)):
            message.metadata.__dict__["_message_id"] = str(number)
            self.answers[str(number)] = self.answer(message)
        return [message.metadata.message_id for message in messages]

    def answer(self, message):
        request, node = unpack_request(message.content), message.metadata.dst_node_id
        self.asked.setdefault(request.server_round, []).append(node)
        if (request.server_round, node) in self.refuses:
            return Message(Error(1000, "refused"), reply_to=message)
        reply = TrainReply(
            site=SITES[NODES.index(node)],
            server_round=request.server_round,
            update=request.parameters,
            num_patients_declared=10,
            privacy=PrivacySpent(epsilon=1.0, delta=1e-5, noise_multiplier=1.0),
        )
        return Message(pack_train_reply(reply), reply_to=message)

    def pull_messages(self, message_ids):
        return [self.answers[identifier] for identifier in message_ids]

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError


@pytest.fixture
def config(tmp_path):
    """Nobody evaluates before the last round, which no test here reaches."""
    overrides = ["evaluation.privacy=dp", "model.image_components=0", "data.root=.", "training.num_rounds=9"]
    return compose(["preset=cbis_mass", *overrides, f"run.dir={tmp_path}"])


def federate_until(last_round, grid, config):
    """Train up to and with ``last_round``, then stop as Ctrl-C would, and return how many sites each round had."""
    num_sites = []

    def on_round(finished):
        num_sites.append(finished.num_sites)
        if finished.server_round == last_round:
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        federate(grid, config, on_round=on_round)
    return num_sites


def test_whoever_took_part_is_waited_for_and_after_a_resume_everybody(config):
    # One is late in the first round and in the second. It refuses there, so the third goes on without it.
    grid = InstantGrid([[11, 12], NODES, [11, 13], NODES, [11, 12]], refuses=[(2, 13)])
    assert federate_until(3, grid, config) == [3, 2, 2]
    assert grid.asked == {1: [11, 12, 13], 2: [11, 12, 13], 3: [11, 12]}
    resumed = InstantGrid([[11, 12], NODES])
    assert federate_until(4, resumed, config) == [3]
    assert resumed.asked == {4: [11, 12, 13]}
