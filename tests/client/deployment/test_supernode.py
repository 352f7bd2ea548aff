"""Which requests the hospital's process answers; real processes run in tests/simulations/test_rehearsal.py."""

import hashlib

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from client.deployment.supernode import answer
from shared_model.errors import FederatedMammographyError, PolicyError

BUNDLE = b"an application"
CANARY = "ZQXCANARYQXZ"


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
    made = ClientApp()

    @made.train()
    def train(message, context):
        calls.append(message)
        if context.node_config:
            raise RuntimeError(f"{CANARY} in the table")
        return Message(RecordDict(), reply_to=message)

    return made


def test_an_approved_bundle_is_answered(app, message, context, calls):
    reply = answer(app, message, context, BUNDLE, frozenset({hashlib.sha256(BUNDLE).hexdigest()}))
    assert not reply.has_error()
    assert calls == [message]


@pytest.mark.parametrize("approved", [set(), {hashlib.sha256(b"another").hexdigest()}])
def test_another_bundle_is_refused_before_any_code_runs(app, message, context, calls, approved):
    reply = answer(app, message, context, BUNDLE, frozenset(approved))
    assert reply.error.reason == PolicyError.public_reason
    assert calls == []


@pytest.mark.parametrize("kind", ["train", "evaluate", "query"])
def test_what_fails_stays_here(app, message, context, kind):
    context.node_config = {"fails": True}
    message.metadata.message_type = kind
    reply = answer(app, message, context, BUNDLE, frozenset({hashlib.sha256(BUNDLE).hexdigest()}))
    assert reply.error.reason == FederatedMammographyError.public_reason
    assert CANARY not in repr(reply.error)
