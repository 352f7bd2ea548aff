"""One exchange: a scripted grid answers, stays silent, lies or fails; a quorum of valid replies or an error."""

import dataclasses
import re

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from server.federation.exchange import evaluate, wait_for_sites
from server.federation.exchange import train as train_and_collect
from shared_model.config.composition import compose
from shared_model.errors import RoundError
from shared_model.messages import (
    EvaluateReply,
    PrivacySpent,
    Request,
    TrainReply,
    joined_arrays,
    pack_evaluate_reply,
    pack_train_reply,
    unpack_request,
)
from shared_model.metrics.score_histogram import ScoreHistogram

NODES = [11, 12, 13]
SITES = ("MGH", "WFU", "ISMD")
PARAMETERS = {"w": np.arange(3, dtype=np.float32), "b": np.ones(1, np.float32)}
SPENT = PrivacySpent(epsilon=0.5, delta=1e-4, noise_multiplier=4.0)


class ScriptedGrid(Grid):
    """Answers every message by a function of it; None is silence. Node sets come one per poll, the last for good."""

    def __init__(self, answer=lambda message: None, node_sets=(NODES,)):
        self.answer = answer
        self.node_sets = list(node_sets)
        self.sent = []
        self.num_polls = 0

    def set_run(self, run):
        """Set nothing."""

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        return Message(content, dst_node_id, message_type, group_id=group_id)

    def get_node_ids(self):
        self.num_polls += 1
        return self.node_sets.pop(0) if len(self.node_sets) > 1 else self.node_sets[0]

    def push_messages(self, messages):
        self.sent = list(messages)
        for number, message in enumerate(self.sent):
            message.metadata.__dict__["_message_id"] = str(number)
        # Replies come one per poll.
        self.answers = [answer for answer in map(self.answer, self.sent) if answer is not None]
        return [message.metadata.message_id for message in self.sent]

    def pull_messages(self, message_ids):
        assert set(message_ids) <= {message.metadata.message_id for message in self.sent}
        return [self.answers.pop(0)] if self.answers else []

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError


pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(scope="module")
def config():
    exact = ["evaluation.privacy=exact", "evaluation.num_bins=10"]
    return compose(["preset=smoke", "federation.round_timeout_seconds=0.4", *exact])


@pytest.fixture
def request_to_sites(config):
    return Request(config=config, server_round=2, parameters=PARAMETERS, constants={})


class Collected:
    """Keeps every update that it is given."""

    def __init__(self):
        self.updates = {}

    def add(self, update, *, site, num_patients):
        assert site not in self.updates
        self.updates[site] = update


def train(grid, request, nodes, collected=None):
    return train_and_collect(grid, request, nodes, aggregator=collected or Collected())


def site_of(message):
    return SITES[NODES.index(message.metadata.dst_node_id)]


def update_of(site, /, **changes):
    values = {
        "site": site,
        "server_round": 2,
        "update": {name: array + SITES.index(site) for name, array in PARAMETERS.items()},
        "num_patients_declared": 40,
        "privacy": SPENT,
    }
    return TrainReply(**(values | changes))


def answering(**replies):
    """Return an answer function: every site trains well but those named here."""

    def answer(message):
        site = site_of(message)
        reply = replies.get(site, update_of(site))
        if isinstance(reply, TrainReply):
            reply = pack_train_reply(reply)
        if isinstance(reply, dict):
            reply = RecordDict({**pack_train_reply(update_of(site)), **reply})
        return None if reply is None else Message(reply, reply_to=message)

    return answer


def test_every_site_is_asked_and_replies_come_ordered_by_site(request_to_sites):
    grid, collected = ScriptedGrid(answering()), Collected()
    exchange = train(grid, request_to_sites, NODES, collected)
    assert [reply.site for reply in exchange.replies] == sorted(SITES)
    assert exchange.failures == ()
    assert [message.metadata.dst_node_id for message in grid.sent] == NODES
    assert {message.metadata.message_type for message in grid.sent} == {MessageType.TRAIN}
    read = unpack_request(grid.sent[0].content)
    assert (read.server_round, read.config) == (2, request_to_sites.config)
    assert read.parameters["w"].tolist() == [0, 1, 2]
    assert [reply.update for reply in exchange.replies] == [{}, {}, {}]
    assert collected.updates["WFU"]["w"].tolist() == [1, 2, 3]


def test_all_sites_are_sent_one_content(request_to_sites):
    grid = ScriptedGrid(answering())
    train(grid, request_to_sites, NODES)
    assert len({id(message.content) for message in grid.sent}) == 1
    assert len({id(message) for message in grid.sent}) == 3


def test_no_refused_update_is_collected(request_to_sites):
    collected = Collected()
    train(ScriptedGrid(answering(MGH=update_of("MGH", server_round=1))), request_to_sites, NODES, collected)
    assert set(collected.updates) == {"WFU", "ISMD"}


BAD = {
    "error": (Error(1000, "the site refused for privacy reasons"), "node 11: the site refused for privacy reasons"),
    "error without a reason": (Error(1000), "node 11: no reason given"),
    "error of many lines": (Error(1000, "a\n\tb" + "c" * 10_000), "node 11: a bccc"),
    "silence": (None, "1 site: no reply within 0.4 s"),
    "nothing inside": (RecordDict(), "node 11: Expected a record 'facts'"),
    "other record": (RecordDict({"facts": ConfigRecord({"site": 3})}), "node 11: Expected site of type str"),
    "unknown site": (update_of("MGH", site="x\ny"), "node 11: Expected a site of federation.sites, got another name"),
    "earlier round": (update_of("MGH", server_round=1), "node 11: Expected a reply for round 2, got one for 1"),
    "later round": (update_of("MGH", server_round=3), "node 11: Expected a reply for round 2, got one for 3"),
    "no privacy": (update_of("MGH", privacy=None), "Expected site MGH to train with privacy=patient, it did not"),
    "other shape": (
        update_of("MGH", update={"w": np.zeros(4, np.float32), "b": np.ones(1, np.float32)}),
        r"Update of site MGH: Expected equal shapes of w, got \(3,\) and \(4,\)",
    ),
    "missing array": (update_of("MGH", update={"w": np.zeros(3, np.float32)}), "Expected equal names in equal order"),
    "empty update": (update_of("MGH", update={}), "Expected equal names in equal order"),
    "not a number": (
        update_of("MGH", update=PARAMETERS | {"w": np.full(3, np.nan, np.float32)}),
        r"Expected update\['w'\] to be finite",
    ),
    "escape sequences": (Error(1000, "\x1b[2J[bold]\u202e<script>\x00end"), r"node 11: \[2J\[bold\] <script> end"),
    "a reason of 10^7 letters": (Error(1000, "x" * 10**7), "node 11: x{199}…"),
    "blanks alone": (Error(1000, "\x1b\n \t"), "node 11: no reason given"),
    "200,000 records": (
        RecordDict({str(number): ConfigRecord() for number in range(200_000)}),
        "node 11: Expected at most 8 records, got 200000",
    ),
    "names of 10^7 letters": (
        RecordDict({"facts": ConfigRecord({"\x1b[31m" + "n" * 10**7: 1})}),
        "node 11: Expected names of at most 200 characters, got 10000005",
    ),
    "a record's name of 10^7 letters": (RecordDict({"n" * 10**7: ConfigRecord()}), "names of at most 200 characters"),
    "a type of 10^7 letters": (
        {"arrays": ArrayRecord({"values": Array("x" * 10**7, (1,), "numpy.ndarray", b"")})},
        "node 11: Expected array 'values' of float32, got 'x{19}…'",
    ),
    "a billion patients": (update_of("MGH", num_patients_declared=10**9), "Expected num-patients-declared=1000000000"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_quorum_survives_one_bad_site(request_to_sites, kind, caplog):
    bad, message = BAD[kind]
    exchange = train(ScriptedGrid(answering(MGH=bad)), request_to_sites, NODES)
    assert [reply.site for reply in exchange.replies] == ["ISMD", "WFU"]
    (failure,) = exchange.failures
    assert re.search(message, failure)
    assert failure.isprintable()
    assert len(failure) < 300
    assert f"Round 2: {failure}" in caplog.text


@pytest.mark.parametrize("kind", BAD)
def test_without_a_quorum_the_round_fails_and_says_why(request_to_sites, kind):
    bad, message = BAD[kind]
    grid = ScriptedGrid(answering(MGH=bad, WFU=None))
    with pytest.raises(RoundError, match=r"Expected at least 2 valid replies in round 2, got 1: .*") as caught:
        train(grid, request_to_sites, NODES)
    assert caught.match("2 sites: no reply" if bad is None else message)


def test_300000_empty_arrays_are_counted_and_not_read(request_to_sites, monkeypatch):
    empty = Array("float32", (0,), "numpy.ndarray", b"")
    many = RecordDict({"facts": ConfigRecord(), "arrays": ArrayRecord({str(n): empty for n in range(300_000)})})
    read = []
    decode = joined_arrays.decode_array
    monkeypatch.setattr(joined_arrays, "decode_array", lambda name, *rest: read.append(name) or decode(name, *rest))
    exchange = train(ScriptedGrid(answering(MGH=many)), request_to_sites, NODES)
    assert exchange.failures == ("node 11: Expected at most 2000 entries in a record, got 300000.",)
    # One array of each of the two others.
    assert len(read) == 2


def test_a_round_in_which_a_thousand_sites_fail_ends_in_a_short_error(request_to_sites):
    nodes = list(range(2000, 3000))
    grid = ScriptedGrid(lambda message: Message(Error(1000, "\x1b[1m" + "x" * 500), reply_to=message))
    grid.pull_messages = lambda identifiers: [grid.answers.pop(0) for _ in range(len(grid.answers))]
    with pytest.raises(RoundError, match=r"got 0: node 2000: \[1mx") as caught:
        train(grid, request_to_sites, nodes)
    assert len(str(caught.value)) < 2200
    assert str(caught.value).isprintable()


def test_silence_of_all_and_an_empty_federation_are_errors(request_to_sites):
    with pytest.raises(RoundError, match=r"got 0: 3 sites: no reply within 0\.4 s\."):
        train(ScriptedGrid(), request_to_sites, NODES)
    with pytest.raises(RoundError, match="got 0: 3 sites: not connected"):
        train(ScriptedGrid(), request_to_sites, [])


def test_one_site_counts_once(request_to_sites):
    claimed = update_of("WFU", num_patients_declared=999)
    exchange = train(ScriptedGrid(answering(ISMD=claimed)), request_to_sites, NODES)
    assert [(reply.site, reply.num_patients_declared) for reply in exchange.replies] == [("MGH", 40), ("WFU", 40)]
    assert exchange.failures == ("node 13: a second reply of site WFU",)


def test_a_site_that_copies_another_does_not_make_a_quorum(request_to_sites):
    grid = ScriptedGrid(answering(WFU=update_of("MGH"), ISMD=update_of("MGH")))
    with pytest.raises(RoundError, match=r"got 1: node 12: a second reply of site MGH; node 13: a second"):
        train(grid, request_to_sites, NODES)


def test_without_privacy_a_private_reply_is_a_failure(request_to_sites):
    config = compose(["preset=smoke", "privacy=off"])
    request = dataclasses.replace(request_to_sites, config=config)
    bare = {site: update_of(site, privacy=None) for site in SITES}
    assert len(train(ScriptedGrid(answering(**bare)), request, NODES).replies) == 3
    exchange = train(ScriptedGrid(answering(**(bare | {"MGH": update_of("MGH")}))), request, NODES)
    assert exchange.failures == ("node 11: Expected site MGH to train with privacy=off, it did not.",)


# Evaluation


def scores_of(site, *, num_bins=10, server_round=2):
    counts = np.full(num_bins, SITES.index(site), dtype=np.int64)
    histogram = ScoreHistogram(negatives=counts, positives=counts)
    return EvaluateReply(site=site, server_round=server_round, test=histogram, validation=histogram)


def test_evaluation_collects_histograms(request_to_sites):
    grid = ScriptedGrid(lambda message: Message(pack_evaluate_reply(scores_of(site_of(message))), reply_to=message))
    exchange = evaluate(grid, request_to_sites, NODES)
    assert [(reply.site, int(reply.test.negatives[0])) for reply in exchange.replies] == [
        ("ISMD", 2),
        ("MGH", 0),
        ("WFU", 1),
    ]
    assert {message.metadata.message_type for message in grid.sent} == {MessageType.EVALUATE}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (scores_of("MGH", num_bins=11), "node 11: Expected test-negatives to be 10 counts"),
        (scores_of("MGH", server_round=1), "node 11: Expected a reply for round 2, got one for 1"),
        (dataclasses.replace(scores_of("MGH"), site="XYZ"), "node 11: Expected a site of federation.sites"),
    ],
)
def test_evaluation_refuses_what_does_not_fit(request_to_sites, bad, message):
    def answer(request):
        site = site_of(request)
        return Message(pack_evaluate_reply(bad if site == "MGH" else scores_of(site)), reply_to=request)

    exchange = evaluate(ScriptedGrid(answer), request_to_sites, NODES)
    assert [reply.site for reply in exchange.replies] == ["ISMD", "WFU"]
    assert len(exchange.failures) == 1
    assert exchange.failures[0].startswith(message)


def test_a_train_reply_is_no_evaluation(request_to_sites):
    with pytest.raises(RoundError, match="Expected an array 'test-negatives'"):
        evaluate(ScriptedGrid(answering()), request_to_sites, NODES)


# Waiting for sites


def test_all_sites_there_need_no_wait(config):
    grid = ScriptedGrid(node_sets=[[13, 11, 12]])
    assert wait_for_sites(grid, config.federation, for_all=True) == [11, 12, 13]
    assert grid.num_polls == 1


def test_late_sites_are_waited_for(config, clock):
    federation = dataclasses.replace(config.federation, round_timeout_seconds=30.0)
    started = clock.now
    grid = ScriptedGrid(node_sets=[[], [11], [11, 12, 13]])
    assert wait_for_sites(grid, federation, for_all=True) == [11, 12, 13]
    assert grid.num_polls == 3
    # Two polls found a site missing.
    assert clock.now - started == pytest.approx(0.4)


def test_after_the_deadline_a_quorum_is_enough(config):
    assert wait_for_sites(ScriptedGrid(node_sets=[[11, 12]]), config.federation, for_all=True) == [11, 12]


def test_after_the_deadline_less_than_a_quorum_is_an_error(config, clock):
    started = clock.now
    with pytest.raises(RoundError, match=r"Expected at least 2 sites within 0\.4 s, 1 connected\."):
        wait_for_sites(ScriptedGrid(node_sets=[[], [11]]), config.federation, for_all=True)
    assert clock.now - started == pytest.approx(0.4)


def test_later_rounds_go_on_with_a_quorum_at_once(config):
    grid = ScriptedGrid(node_sets=[[11], [11, 13], [11, 12, 13]])
    federation = dataclasses.replace(config.federation, round_timeout_seconds=30.0)
    assert wait_for_sites(grid, federation, for_all=False) == [11, 13]


def test_strangers_are_not_asked(config):
    federation = dataclasses.replace(config.federation, node_ids=tuple(NODES))
    assert wait_for_sites(ScriptedGrid(node_sets=[[11, 12, 13, 99]]), federation, for_all=True) == [11, 12, 13]


def with_nodes(request, **changes):
    """Return the request of a federation whose sites are enrolled."""
    federation = dataclasses.replace(request.config.federation, node_ids=tuple(NODES), **changes)
    return dataclasses.replace(request, config=dataclasses.replace(request.config, federation=federation))


@pytest.mark.parametrize(
    ("ismd_answers", "asked", "reason"),
    [
        (answering(ISMD=Error(1000, "refused")), NODES, "refused"),
        (answering(ISMD=None), NODES, "no reply within 0.4 s"),
        (answering(), NODES[:2], "not connected"),
    ],
    ids=["refusal", "silence", "away"],
)
def test_a_site_that_is_enrolled_is_called_by_its_name(request_to_sites, ismd_answers, asked, reason):
    exchange = train(ScriptedGrid(ismd_answers), with_nodes(request_to_sites), asked)
    assert exchange.failures == (f"ISMD: {reason}",)
    assert exchange.reasons == {"ISMD": reason}


def test_all_that_fail_alike_stand_in_one_line(request_to_sites):
    grid = ScriptedGrid(answering(ISMD=None, WFU=None))
    exchange = train(grid, with_nodes(request_to_sites, min_sites=1), NODES)
    assert exchange.failures == ("WFU, ISMD: no reply within 0.4 s",)
    assert exchange.reasons == dict.fromkeys(("WFU", "ISMD"), "no reply within 0.4 s")


def test_a_site_that_is_away_is_a_failure(request_to_sites):
    exchange = train(ScriptedGrid(answering()), request_to_sites, NODES[:2])
    assert exchange.failures == ("1 site: not connected",)


def test_no_site_speaks_for_another(request_to_sites):
    config = request_to_sites.config
    federation = dataclasses.replace(config.federation, node_ids=tuple(NODES))
    request = dataclasses.replace(request_to_sites, config=dataclasses.replace(config, federation=federation))
    exchange = train(ScriptedGrid(answering(**{SITES[0]: update_of(SITES[1])})), request, NODES)
    assert {reply.site for reply in exchange.replies} == set(SITES[1:])
    assert "from the node that is enrolled for it" in exchange.failures[0]


class FlakyGrid(ScriptedGrid):
    """Answers for a site that is not connected as Flower does, with an error of its own, until the site is back."""

    def push_messages(self, messages):
        first = len(self.sent)
        connected = set(self.get_node_ids())
        pushed = list(messages)
        for number, message in enumerate(pushed, start=first):
            message.metadata.__dict__["_message_id"] = str(number)
        self.sent += pushed
        self.answers = [*getattr(self, "answers", []), *(self._answer(message, connected) for message in pushed)]
        return [message.metadata.message_id for message in pushed]

    def _answer(self, message, connected):
        if message.metadata.dst_node_id in connected:
            return self.answer(message)
        error = Message(Error(3, "Error: Node Unavailable"), reply_to=message)
        error.metadata.__dict__["_src_node_id"] = 1
        return error


def with_deadline(request, seconds):
    federation = dataclasses.replace(request.config.federation, round_timeout_seconds=seconds)
    return dataclasses.replace(request, config=dataclasses.replace(request.config, federation=federation))


def test_a_site_that_lost_its_connection_is_asked_again_when_it_is_back(request_to_sites):
    # Away when it is asked, twice more when it is looked for, then back.
    grid = FlakyGrid(answering(), node_sets=[[11, 12], [11, 12], [12], NODES])
    exchange = train(grid, with_deadline(request_to_sites, 60.0), NODES)
    assert [reply.site for reply in exchange.replies] == sorted(SITES)
    assert exchange.failures == ()
    asked = [message.metadata.dst_node_id for message in grid.sent]
    assert asked == [11, 12, 13, 13]
    assert grid.sent[3].content is grid.sent[2].content
    assert grid.sent[3].metadata.group_id == "2"


def test_a_site_that_does_not_come_back_is_silent(request_to_sites):
    exchange = train(FlakyGrid(answering(), node_sets=[[11, 12]]), request_to_sites, NODES)
    assert [reply.site for reply in exchange.replies] == ["MGH", "WFU"]
    assert exchange.failures == ("1 site: no reply within 0.4 s",)


def test_a_refusal_of_the_site_itself_is_final(request_to_sites):
    grid = FlakyGrid(answering(ISMD=Error(1000, "refused")), node_sets=[NODES])
    exchange = train(grid, with_deadline(request_to_sites, 60.0), NODES)
    assert exchange.failures == ("node 13: refused",)
    assert len(grid.sent) == 3


def test_silence_lasts_as_long_as_the_deadline_and_no_longer(request_to_sites, clock):
    started = clock.now
    exchange = train(ScriptedGrid(answering(ISMD=None)), request_to_sites, NODES)
    assert clock.now - started == pytest.approx(0.4)
    assert exchange.failures == ("1 site: no reply within 0.4 s",)


def test_when_all_have_answered_nobody_waits(request_to_sites, clock):
    request = with_deadline(request_to_sites, 60.0)
    started = clock.now
    assert len(train(ScriptedGrid(answering()), request, NODES).replies) == 3
    assert clock.now == started
