"""How large a request may be, and what a site does with a larger one: nothing, and it counts."""

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.app import app
from client.deployment.desk import Desk
from client.deployment.request_size import MAX_BYTES, MAX_ENTRIES, MAX_NAME, MAX_RECORDS, MAX_VALUE, require_size
from shared_model.config import compose
from shared_model.config.choices import Backbone, Fusion
from shared_model.errors import PolicyError, ProtocolError
from shared_model.messages import Request, pack_request
from shared_model.network import build_network, constants_state, trainable_state
from shared_model.system.audit_log import read
from shared_model.vocabulary import clinical_width
from tests.hospital_kits import BUNDLE, OVERRIDES


def array(dtype="float32", shape=(0,), data=b""):
    return Array(dtype=dtype, shape=shape, stype="numpy.ndarray", data=data)


def arrays(count):
    return ArrayRecord({f"a{number}": array() for number in range(count)})


TOO_LARGE = {
    "arrays without end": lambda: {"arrays": arrays(MAX_ENTRIES + 1)},
    "arrays of several records": lambda: {"arrays": arrays(MAX_ENTRIES), "more": arrays(1)},
    "a long name": lambda: {"arrays": ArrayRecord({"n" * (MAX_NAME + 1): array()})},
    "a long name of a value": lambda: {"facts": ConfigRecord({"n" * (MAX_NAME + 1): 1})},
    "a long name of a record": lambda: {"n" * (MAX_NAME + 1): ConfigRecord()},
    "a long type": lambda: {"arrays": ArrayRecord({"a": array(dtype="f" * (MAX_NAME + 1))})},
    "a shape without end": lambda: {"arrays": ArrayRecord({"a": array(shape=(1,) * (MAX_NAME + 1))})},
    "a long configuration": lambda: {"facts": ConfigRecord({"config": "{" * (MAX_VALUE + 1)})},
    "many bytes": lambda: {"facts": ConfigRecord({"config": bytes(MAX_VALUE + 1)})},
    "many numbers": lambda: {"facts": ConfigRecord({"more": [1] * (MAX_VALUE + 1)})},
    "many words": lambda: {"facts": ConfigRecord({"more": ["w" * MAX_NAME] * (MAX_VALUE // MAX_NAME + 1)})},
    "words without a letter": lambda: {"facts": ConfigRecord({"more": [""] * (MAX_VALUE // 8 + 1)})},
    "values without end": lambda: {"facts": ConfigRecord({f"k{number}": 1 for number in range(MAX_ENTRIES + 1)})},
    "records without end": lambda: {f"more{number}": ConfigRecord() for number in range(MAX_RECORDS)},
    "one large array": lambda: {"arrays": ArrayRecord({"a": array(data=bytes(MAX_BYTES + 1))})},
    "two large arrays": lambda: {"arrays": ArrayRecord({name: array(data=bytes(MAX_BYTES // 2 + 1)) for name in "ab"})},
}


def honest(*overrides):
    config = compose([*OVERRIDES, *overrides])
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    arrays = trainable_state(network), constants_state(network)
    return pack_request(Request(config=config, server_round=1, parameters=arrays[0], constants=arrays[1]))


@pytest.fixture
def answer(begun):
    """Return a function that puts records to the process of a hospital that may refuse twice a day."""
    begun.change_policy(max_refusals_per_day=2)
    desk = Desk.open(begun.site, app)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1

    def put(content):
        message = Message(content, 2, "train", group_id="1")
        message.metadata.__dict__["_message_id"] = "message"
        node = dict(begun.site.node_config)
        context = Context(run_id=1, node_id=2, node_config=node, state=RecordDict(), run_config={})
        return desk.answer(message, context, run_id="1", bundle=BUNDLE)

    return put


@pytest.mark.parametrize("more", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_request_that_is_too_large_is_not_unpacked_and_counts_as_refused(begun, answer, monkeypatch, more):
    """Earlier: 300,000 empty arrays, names of 10 MB and values without end were unpacked, copied and compared first."""
    unpacked = []
    monkeypatch.setattr("client.app.unpack_request", unpacked.append)
    content = RecordDict({**honest(), **more()})
    assert [answer(content).error.reason for _ in range(2)] == [ProtocolError.public_reason] * 2
    assert unpacked == []
    assert answer(honest()).error.reason == PolicyError.public_reason
    keys = [line.facts["refused_key"] for line in read(begun.site.audit_log) if line.event == "reply"]
    assert keys == ["ProtocolError", "ProtocolError", "max_refusals_per_day"]


@pytest.mark.parametrize("backbone", list(Backbone))
@pytest.mark.parametrize("fusion", [Fusion.MID])
def test_every_network_fits_with_room_to_spare(backbone, fusion):
    views = ["data.views=own", "model.modality=fusion", "model.image_components=0", "model.hidden_width=64"]
    content = honest(f"model.backbone={backbone}", f"model.fusion={fusion}", *views)
    require_size(content)
    assert 2 * sum(len(record) for record in content.values()) < MAX_ENTRIES
    facts = content.config_records["facts"]
    assert 2 * max(map(len, facts["parameters-names"])) < MAX_NAME
    assert 2 * sum(8 + len(name) for name in facts["parameters-names"]) < MAX_VALUE
    assert 2 * sum(len(a.data) for record in content.array_records.values() for a in record.values()) < MAX_BYTES
    assert 8 * len(facts["config"]) < MAX_VALUE


def test_an_honest_request_is_answered(answer):
    assert not answer(honest()).has_error()
