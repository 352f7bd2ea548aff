"""The grid in this process: sites share nothing, a failure is a reply, and a deadline is kept."""

import concurrent.futures
import contextlib
import threading

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from simulations.federation import local_grid
from simulations.federation.local_grid import LocalGrid


@pytest.fixture(autouse=True)
def task_identity(monkeypatch):
    """The grid sets the identity of this process; give it back afterwards."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, None)


@pytest.fixture
def gates():
    """One gate per site; a site that has one waits for it."""
    made = {}
    yield made
    for gate in made.values():
        gate.set()


@pytest.fixture
def app(gates):
    client = ClientApp()

    @client.train()
    def train(message, context):
        index = context.node_config["partition-id"]
        facts = message.content["facts"]
        if index in gates:
            assert gates[index].wait(600)
        if facts.get("fails-at") == index:
            raise ValueError(f"secret of site {index}")
        seen = message.content["arrays"]["w"].numpy().tolist()
        message.content["arrays"]["w"] = Array(np.full(2, 99.0 + index))
        facts["extra"] = index
        context.state["count"] = ConfigRecord({"n": context.state.get("count", {"n": 0})["n"] + 1})
        reply = {
            "site": index,
            "of": context.node_config["num-partitions"],
            "seen": seen,
            "keys": sorted(facts),
            "calls": context.state["count"]["n"],
            "thread": threading.current_thread().name,
        }
        return Message(RecordDict({"facts": ConfigRecord(reply)}), reply_to=message)

    @client.evaluate()
    def evaluate(message, context):
        return Message(RecordDict({"facts": ConfigRecord({"kind": "evaluate"})}), reply_to=message)

    return client


def content_of(**facts):
    return RecordDict(
        {"facts": ConfigRecord({"round": 1, **facts}), "arrays": ArrayRecord({"w": Array(np.array([1.0, 2.0]))})}
    )


def messages_to(grid, content, kind=MessageType.TRAIN):
    return [grid.create_message(content, kind, node, group_id="1") for node in grid.get_node_ids()]


def facts_of(replies):
    return sorted((dict(reply.content["facts"]) for reply in replies), key=lambda facts: facts["site"])


def test_every_site_answers_under_its_own_partition(app):
    with LocalGrid(app, num_sites=3, num_workers=2) as grid:
        nodes = grid.get_node_ids()
        replies = list(grid.send_and_receive(messages_to(grid, content_of())))
    assert len(set(nodes)) == 3
    assert [(facts["site"], facts["of"]) for facts in facts_of(replies)] == [(0, 3), (1, 3), (2, 3)]
    assert [reply.metadata.src_node_id for reply in replies] == nodes
    assert [reply.content["facts"]["site"] for reply in replies] == [0, 1, 2]


def test_replies_name_the_message_they_answer(app):
    with LocalGrid(app, num_sites=2, num_workers=2) as grid:
        messages = messages_to(grid, content_of())
        replies = list(grid.send_and_receive(messages))
    assert [reply.metadata.reply_to_message_id for reply in replies] == [m.metadata.message_id for m in messages]
    assert len({message.metadata.message_id for message in messages}) == 2
    assert {reply.metadata.group_id for reply in replies} == {"1"}


def test_the_message_type_chooses_the_function(app):
    with LocalGrid(app, num_sites=1, num_workers=1) as grid:
        (reply,) = grid.send_and_receive(messages_to(grid, content_of(), MessageType.EVALUATE))
    assert reply.content["facts"]["kind"] == "evaluate"


def test_a_site_that_changes_its_message_changes_no_other_and_not_the_servers(app):
    content = content_of()
    with LocalGrid(app, num_sites=3, num_workers=1) as grid:
        for _ in range(2):
            facts = facts_of(grid.send_and_receive(messages_to(grid, content)))
            assert [one["seen"] for one in facts] == [[1.0, 2.0]] * 3
            assert [one["keys"] for one in facts] == [["extra", "round"]] * 3
    assert content["arrays"]["w"].numpy().tolist() == [1, 2]
    assert "extra" not in content["facts"]


def test_a_site_keeps_its_own_state_between_messages(app):
    with LocalGrid(app, num_sites=2, num_workers=2) as grid:
        for expected in (1, 2, 3):
            facts = facts_of(grid.send_and_receive(messages_to(grid, content_of())))
            assert [one["calls"] for one in facts] == [expected, expected]


def test_a_client_that_raises_is_an_error_reply_without_the_text(app, caplog):
    with LocalGrid(app, num_sites=3, num_workers=2) as grid:
        replies = list(grid.send_and_receive(messages_to(grid, content_of(**{"fails-at": 1}))))
        nodes = grid.get_node_ids()
    (failed,) = [reply for reply in replies if reply.has_error()]
    assert failed.metadata.src_node_id == nodes[1]
    assert failed.error.reason == "the client application raised"
    assert [facts["site"] for facts in facts_of(reply for reply in replies if reply.has_content())] == [0, 2]
    assert "secret of site 1" in caplog.text  # at the site, where it helps


@pytest.fixture
def deadline(monkeypatch, gates):
    """Let a deadline pass when all but the sites behind a gate have answered, and return the seconds asked for."""
    asked = []

    def wait(futures, timeout):
        asked.append(timeout)
        if timeout is None:
            return concurrent.futures.wait(futures)
        open_ones = [future for site, future in enumerate(futures) if site not in gates or gates[site].is_set()]
        return concurrent.futures.wait(open_ones)

    monkeypatch.setattr(local_grid, "wait", wait)
    return asked


def test_after_the_deadline_only_finished_replies_come(app, gates, deadline):
    gates[2] = threading.Event()
    with LocalGrid(app, num_sites=3, num_workers=3) as grid:
        replies = list(grid.send_and_receive(messages_to(grid, content_of()), timeout=0.5))
        assert [facts["site"] for facts in facts_of(replies)] == [0, 1]
        gates[2].set()
        later = list(grid.send_and_receive(messages_to(grid, content_of())))
    # The site that was late answers two messages at once: how many it has counted is its own affair.
    assert [facts["calls"] for facts in facts_of(later)][:2] == [2, 2]
    assert len(later) == 3
    assert deadline == [0.5, None]


def test_a_late_reply_is_pulled_afterwards_under_the_message_that_it_answers(app, gates, deadline):
    gates[1] = threading.Event()
    with LocalGrid(app, num_sites=2, num_workers=2) as grid:
        messages = messages_to(grid, content_of())
        assert len(list(grid.send_and_receive(messages, timeout=0.5))) == 1
        gates[1].set()
        # The same worker answers the second message after the first one.
        list(grid.send_and_receive(messages_to(grid, content_of())))
        (late,) = grid.pull_messages([messages[1].metadata.message_id])
    assert late.metadata.reply_to_message_id == messages[1].metadata.message_id
    assert late.content["facts"]["site"] == 1


def pull_all(grid, ids):
    """Return the replies when all have come; it takes as long as it takes."""
    replies = []
    while len(replies) < len(ids):
        replies += grid.pull_messages(ids)
        threading.Event().wait(0.005)
    return replies


def test_pushed_messages_are_pulled_when_ready_and_once(app, gates):
    gates[0] = threading.Event()
    with LocalGrid(app, num_sites=1, num_workers=1) as grid:
        ids = list(grid.push_messages(messages_to(grid, content_of())))
        assert list(grid.pull_messages(ids)) == []
        gates[0].set()
        assert [facts["site"] for facts in facts_of(pull_all(grid, ids))] == [0]
        assert list(grid.pull_messages(ids)) == []
        assert list(grid.pull_messages(["unknown"])) == []


def test_no_more_sites_compute_at_once_than_workers():
    """Three sites compete for two workers; whoever computes says how many do."""
    client, lock, both = ClientApp(), threading.Lock(), threading.Barrier(2)
    computing, seen = set(), []

    @client.train()
    def train(message, context):
        site = context.node_config["partition-id"]
        with lock:
            computing.add(site)
            seen.append(len(computing))
        if site < 2:
            # The first two meet, so that both workers are in use.
            both.wait(600)
        with lock:
            computing.discard(site)
        return Message(RecordDict({"facts": ConfigRecord({"site": site})}), reply_to=message)

    with LocalGrid(client, num_sites=3, num_workers=2) as grid:
        replies = list(grid.send_and_receive(messages_to(grid, content_of())))
    assert len(replies) == 3
    assert max(seen) == 2


def test_workers_are_named_after_what_they_do(app):
    with LocalGrid(app, num_sites=3, num_workers=2) as grid:
        replies = list(grid.send_and_receive(messages_to(grid, content_of())))
    assert {facts["thread"] for facts in facts_of(replies)} <= {"site_0", "site_1"}


def test_nothing_to_send_is_nothing_to_receive(app):
    with LocalGrid(app, num_sites=1, num_workers=1) as grid:
        assert list(grid.send_and_receive([])) == []


def test_leaving_with_an_error_does_not_wait_for_sites(app, gates):
    gates[0] = threading.Event()

    def fail():
        with LocalGrid(app, num_sites=1, num_workers=1) as grid:
            grid.push_messages(messages_to(grid, content_of()))
            raise RuntimeError("the server stops")

    with pytest.raises(RuntimeError, match="the server stops"):
        fail()
    # The site still waits: had the grid waited for it, nobody would have opened its gate.
    assert not gates[0].is_set()
    assert any(thread.name == "site_0" for thread in threading.enumerate())


def test_a_message_of_a_kind_that_the_sites_do_not_know_is_an_error_reply(app):
    with LocalGrid(app, num_sites=2, num_workers=2) as grid:
        replies = list(grid.send_and_receive(messages_to(grid, content_of(), MessageType.QUERY)))
    assert [reply.has_error() for reply in replies] == [True, True]
    assert {reply.error.reason for reply in replies} == {"the client application raised"}


def test_the_run_can_be_set(app):
    with LocalGrid(app, num_sites=1, num_workers=1) as grid:
        run = Run.create_empty(run_id=7)
        grid.set_run(run)
        assert grid.run is run


@pytest.mark.parametrize("fails", [False, True])
def test_the_sites_are_forgotten_when_their_run_is_over(app, monkeypatch, fails):
    forgotten = []
    monkeypatch.setattr(local_grid, "forget_simulated_sites", lambda: forgotten.append(1))
    with contextlib.suppress(RuntimeError), LocalGrid(app, num_sites=1, num_workers=1) as grid:
        list(grid.send_and_receive(messages_to(grid, content_of())))
        assert forgotten == []
        if fails:
            raise RuntimeError("the server stops")
    assert forgotten == [1]
