"""Which requests a hospital's process looks at, and what its audit log says; real processes run in test_rehearsal."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from client.deployment.desk import Desk
from client.privacy.audited_releases import AUDIT
from client.privacy.ledger import Ledger
from shared_model.errors import FederatedMammographyError, PolicyError
from shared_model.system.audit_log import read

BUNDLE = b"an application"
CANARY = "ZQXCANARYQXZ"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.time = NOON

    def __call__(self):
        return self.time


@pytest.fixture
def clock(monkeypatch):
    """The clock of the desk and of its audit log."""
    made = Clock()

    class Now(datetime):
        @classmethod
        def now(cls, tz=None):
            return made.time

    monkeypatch.setattr("shared_model.system.audit_log.datetime", Now)
    return made


@pytest.fixture
def message(monkeypatch):
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    made = Message(RecordDict(), 2, "train", group_id="1")
    made.metadata.__dict__["_message_id"] = "message"
    return made


@pytest.fixture
def context():
    return Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})


@pytest.fixture
def calls():
    return []


@pytest.fixture
def app(calls):
    """Fails, refuses or answers, as the node's settings say."""
    made = ClientApp()

    @made.train()
    def train(message, context):
        calls.append(message)
        if context.node_config.get("fails"):
            raise RuntimeError(f"{CANARY} in the table")
        if context.node_config.get("refuses"):
            context.state[AUDIT] = ConfigRecord({"refused_key": "privacy.mode", "configuration": "c" * 64})
            return Message(Error(code=1000, reason=PolicyError.public_reason), reply_to=message)
        context.state[AUDIT] = ConfigRecord({"purpose": "training", "noise_multiplier": 2.5, **context.node_config})
        return Message(RecordDict(), reply_to=message)

    return made


@pytest.fixture
def open_desk(kit, app, clock):
    """Return a function that opens the desk of a hospital, with limits in its policy."""
    (kit.folder / "approved_bundles.txt").write_text(hashlib.sha256(BUNDLE).hexdigest() + "\n")

    def open_it(**limits):
        kit.change_policy(**limits)
        return Desk.open(kit.site, app, now=clock)

    return open_it


def ask(desk, message, context, bundle=BUNDLE):
    return desk.answer(message, context, run_id="7", bundle=bundle)


def lines(kit, event):
    return [line.facts for line in read(kit.site.audit_log) if line.event == event]


def test_an_approved_bundle_is_answered(open_desk, message, context, calls):
    assert not ask(open_desk(), message, context).has_error()
    assert calls == [message]


@pytest.mark.parametrize("approved", ["", hashlib.sha256(b"another").hexdigest()])
def test_another_bundle_is_refused_before_any_code_runs(kit, open_desk, message, context, calls, approved):
    desk = open_desk()
    (kit.folder / "approved_bundles.txt").write_text(approved)
    reply = ask(desk, message, context)
    assert reply.error.reason == PolicyError.public_reason
    assert calls == []
    (facts,) = lines(kit, "reply")
    assert facts["refused_key"] == "bundle"


@pytest.mark.parametrize("kind", ["train", "evaluate", "query"])
def test_what_fails_stays_here(kit, open_desk, message, context, kind):
    context.node_config = {"fails": True}
    message.metadata.message_type = kind
    reply = ask(open_desk(), message, context)
    assert reply.error.reason == FederatedMammographyError.public_reason
    assert CANARY not in repr(reply.error)
    assert CANARY not in kit.site.audit_log.read_text()
    (facts,) = lines(kit, "reply")
    assert facts["refused_key"]


class TestAuditLog:
    def test_a_request_and_its_reply_are_two_lines(self, kit, open_desk, message, context):
        ledger = Ledger.create(kit.site.ledger)
        ask(open_desk(), message, context)
        asked, reply = [line.facts for line in read(kit.site.audit_log)]
        assert asked == {
            "run": "7", "round": "1", "kind": "train", "bundle": hashlib.sha256(BUNDLE).hexdigest(), "bytes_in": 0
        }  # fmt: skip
        assert reply == {
            "run": "7", "round": "1", "kind": "train", "outcome": "answered", "bytes_out": 0,
            "ledger_head": ledger.history().entries[-1].digest, "purpose": "training", "noise_multiplier": 2.5,
        }  # fmt: skip

    def test_a_refusal_names_what_was_refused(self, kit, open_desk, message, context):
        context.node_config = {"refuses": True}
        ask(open_desk(), message, context)
        (facts,) = lines(kit, "reply")
        assert (facts["refused_key"], facts["configuration"]) == ("privacy.mode", "c" * 64)
        assert facts["outcome"] == PolicyError.public_reason
        # Nothing was ever begun here.
        assert "ledger_head" not in facts

    def test_what_the_log_says_goes_no_further(self, open_desk, message, context):
        reply = ask(open_desk(), message, context)
        assert dict(context.state) == {}
        assert dict(reply.content) == {}

    def test_too_few_patients_are_an_alarm_of_the_sites_own(self, kit, open_desk, message, context):
        context.node_config = {"is_below_declared": True}
        assert not ask(open_desk(), message, context).has_error()
        (alarm,) = lines(kit, "alarm")
        assert alarm["reason"] == "fewer training patients than declared"
        (reply,) = lines(kit, "reply")
        assert "is_below_declared" not in reply

    def test_a_servers_text_cannot_break_the_log(self, kit, open_desk, message, context):
        message.metadata.group_id = "1\n\x00" + "x" * 1000
        ask(open_desk(), message, context)
        (facts,) = lines(kit, "reply")
        assert facts["round"] == "1 " + "x" * 97 + "…"


class TestRefusals:
    def test_after_too_many_nothing_is_looked_at(self, kit, open_desk, message, context, calls):
        desk = open_desk(max_refusals_per_day=3)
        context.node_config = {"refuses": True}
        for _ in range(3):
            ask(desk, message, context)
        context.node_config = {}
        reply = ask(desk, message, context)
        assert reply.error.reason == PolicyError.public_reason
        assert len(calls) == 3
        assert lines(kit, "reply")[-1]["refused_key"] == "max_refusals_per_day"

    def test_answers_are_not_counted(self, open_desk, message, context, calls):
        desk = open_desk(max_refusals_per_day=1)
        for _ in range(3):
            assert not ask(desk, message, context).has_error()
        assert len(calls) == 3

    def test_a_restart_forgets_none(self, open_desk, message, context, calls):
        context.node_config = {"refuses": True}
        for _ in range(2):
            ask(open_desk(max_refusals_per_day=2), message, context)
        ask(open_desk(max_refusals_per_day=2), message, context)
        assert len(calls) == 2

    def test_a_new_day_begins_anew(self, open_desk, message, context, calls, clock):
        desk = open_desk(max_refusals_per_day=1)
        context.node_config = {"refuses": True}
        ask(desk, message, context)
        ask(desk, message, context)
        assert len(calls) == 1
        clock.time = NOON + timedelta(hours=12)
        ask(desk, message, context)
        assert len(calls) == 2

    def test_without_a_limit_all_are_looked_at(self, open_desk, message, context, calls):
        desk = open_desk(max_refusals_per_day=None)
        context.node_config = {"refuses": True}
        for _ in range(5):
            ask(desk, message, context)
        assert len(calls) == 5


@pytest.mark.parametrize(
    ("grid", "elapsed", "pause"), [(1.0, 0.25, 0.75), (1.0, 2.0, 0.0), (10.0, 12.0, 8.0), (None, 0.3, 0.0)]
)
def test_replies_leave_at_multiples_of_the_policys_interval(open_desk, grid, elapsed, pause):
    assert open_desk(reply_grid_seconds=grid).seconds_to_wait(elapsed) == pytest.approx(pause)


def test_the_log_is_json_lines(kit, open_desk, message, context):
    ask(open_desk(), message, context)
    assert all(json.loads(line) for line in kit.site.audit_log.read_text().splitlines())
