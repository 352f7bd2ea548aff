"""Requests and replies over Flower records: round trips, and every malformed record refused by name."""

import dataclasses
import io
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared_model.config.choices import EvaluationPrivacy
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import config_fingerprint
from shared_model.errors import ConfigError, ProtocolError
from shared_model.messages import (
    EvaluateReply,
    PrivacySpent,
    Request,
    TrainReply,
    pack_evaluate_reply,
    pack_request,
    pack_train_reply,
    unpack_evaluate_reply,
    unpack_request,
    unpack_train_reply,
)
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.privacy.noise_calibration import evaluation_noise
from shared_model.privacy.patient_histogram import PatientHistogram

NUM_BINS = 4
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
ARRAYS = hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
PARAMETERS = st.dictionaries(st.text(max_size=5), ARRAYS, max_size=3)
UPDATE = {"head.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "head.bias": np.zeros(2, np.float32)}
SPENT = PrivacySpent(epsilon=1.5, delta=1e-4, noise_multiplier=3.0)
REPLY = TrainReply(site="MGH", server_round=2, update=UPDATE, num_patients_declared=120, privacy=SPENT)


@pytest.fixture(scope="module")
def config():
    return compose(["preset=smoke"])


@pytest.fixture(scope="module")
def request_to_site(config):
    return Request(config=config, server_round=3, parameters=UPDATE, constants={"mean": np.ones(4, np.float32)})


def make_histogram(*counts):
    return ScoreHistogram(negatives=np.array(counts), positives=np.array(counts[::-1]))


EVALUATION = EvaluateReply(
    site="WFU", server_round=2, test=make_histogram(1, 2, 3, 4), validation=make_histogram(0, 0, 0, 9)
)


def assert_same_arrays(one, other):
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert one[name].shape == other[name].shape
        assert np.array_equal(one[name], other[name])


def npy(array, *, allow_pickle=False):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def sent(data, shape=(2,), dtype="float32", stype="numpy.ndarray"):
    return Array(dtype, shape, stype, data)


def exact(num_bins):
    """An evaluation of fewer bins than a configuration may ask for, so that tests can spell them out."""
    return SimpleNamespace(privacy=EvaluationPrivacy.EXACT, bins=num_bins)


def over_the_wire(record):
    """Return what arrives after Flower's own serialisation of every record."""
    copied = RecordDict()
    for name, part in record.items():
        if isinstance(part, ArrayRecord):
            arrays = {}
            for key, array in part.items():
                arrays[key] = Array.inflate(array.deflate(), children=array.children)
            copied[name] = ArrayRecord(arrays)
        else:
            copied[name] = type(part).inflate(part.deflate())
    return copied


def test_a_configuration_is_read_once_for_a_run_and_each_object_written_once():
    """A thousand sites in one process read the same one every round; another is never taken for it."""
    configs = [
        compose(["preset=smoke", "run.dir=run", f"training.momentum={momentum}"]) for momentum in ("0.5", "0.0", "-0.0")
    ]
    contents = [pack_request(Request(config=config, server_round=1, parameters={}, constants={})) for config in configs]
    for content, config in zip(contents, configs, strict=True):
        first, second = (unpack_request(content).config for _ in range(2))
        assert first is second
        assert first == config
        assert first.to_json() == config.to_json()
        assert first.to_json() is first.to_json()
    # Equal as numbers, and two texts: the ledger knows them for two runs.
    assert configs[1] == configs[2]
    assert len({config_fingerprint(unpack_request(content).config) for content in contents}) == 3
    changed = dataclasses.replace(configs[0], seed=5)
    assert ExperimentConfig.from_json(changed.to_json()) == changed != configs[0]


@given(PARAMETERS, PARAMETERS, st.integers(0, 10**6))
def test_request_round_trip(config, parameters, constants, server_round):
    original = Request(config=config, server_round=server_round, parameters=parameters, constants=constants)
    read = unpack_request(over_the_wire(pack_request(original)))
    assert (read.config, read.server_round) == (config, server_round)
    assert_same_arrays(read.parameters, parameters)
    assert_same_arrays(read.constants, constants)


@given(
    PARAMETERS,
    st.text(max_size=5),
    st.integers(1, 10**6),
    st.integers(1, 10**7),
    st.none()
    | st.builds(PrivacySpent, epsilon=st.floats(0, 1e9), delta=st.floats(0, 1), noise_multiplier=st.floats(0, 99)),
)
def test_train_reply_round_trip(update, site, server_round, num_patients, privacy):
    original = TrainReply(
        site=site, server_round=server_round, update=update, num_patients_declared=num_patients, privacy=privacy
    )
    read = unpack_train_reply(over_the_wire(pack_train_reply(original)))
    assert_same_arrays(read.update, update)
    assert dataclasses.replace(read, update={}) == dataclasses.replace(original, update={})


def test_evaluate_reply_round_trip():
    read = unpack_evaluate_reply(over_the_wire(pack_evaluate_reply(EVALUATION)), evaluation=exact(NUM_BINS))
    assert (read.site, read.server_round) == ("WFU", 2)
    for role in ("test", "validation"):
        for part in ("negatives", "positives"):
            counts = getattr(getattr(read, role), part)
            assert counts.dtype == np.int64
            assert counts.tolist() == getattr(getattr(EVALUATION, role), part).tolist()


def test_a_private_evaluation_takes_the_noise_of_the_configuration():
    evaluation = SimpleNamespace(privacy=EvaluationPrivacy.DP, bins=2, target_epsilon=2.0, delta=1e-4)
    counts = np.array([-0.5, 7.25])
    claimed = PatientHistogram(negatives=counts, positives=counts[::-1].copy(), noise_std=1e-3)
    reply = EvaluateReply(site="WFU", server_round=2, test=claimed, validation=claimed)
    read = unpack_evaluate_reply(over_the_wire(pack_evaluate_reply(reply)), evaluation=evaluation)
    assert read.test.noise_std == read.validation.noise_std == evaluation_noise(evaluation)
    assert read.test.negatives.tolist() == [-0.5, 7.25]
    assert read.validation.positives.tolist() == [7.25, -0.5]
    with pytest.raises(ProtocolError, match="of float64, got 'int64'"):
        unpack_evaluate_reply(pack_evaluate_reply(EVALUATION), evaluation=evaluation)


def test_arrays_that_are_not_contiguous_arrive_in_order():
    transposed = {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.arange(8, dtype=np.float32)[::2]}
    read = unpack_train_reply(pack_train_reply(dataclasses.replace(REPLY, update=transposed)))
    assert_same_arrays(read.update, transposed)


def test_arrays_that_arrived_belong_to_the_receiver():
    record = pack_train_reply(REPLY)
    unpack_train_reply(record).update["head.bias"][:] = 7
    assert unpack_train_reply(record).update["head.bias"].tolist() == [0, 0]
    assert UPDATE["head.bias"].tolist() == [0, 0]


def test_a_reply_without_privacy_has_none():
    assert unpack_train_reply(pack_train_reply(dataclasses.replace(REPLY, privacy=None))).privacy is None


# What does not belong


def with_fact(record, key, value):
    record["facts"][key] = value
    return record


def with_array(array, shape=(2,)):
    """A train reply whose update, it says, has one array of ``shape``, and which brings ``array``."""
    record = pack_train_reply(dataclasses.replace(REPLY, update={"w": np.zeros(shape, np.float32)}))
    record["arrays"] = ArrayRecord({"values": array})
    return record


def without_fact(record, key):
    del record["facts"][key]
    return record


@pytest.mark.parametrize("missing", ["facts", "arrays"])
def test_a_request_lacking_a_record_is_refused(request_to_site, missing):
    record = pack_request(request_to_site)
    del record[missing]
    with pytest.raises(ProtocolError, match=f"Expected a record '{missing}', got "):
        unpack_request(record)


@pytest.mark.parametrize("name", ["facts", "arrays"])
def test_a_record_of_another_kind_does_not_count(request_to_site, name):
    record = pack_request(request_to_site)
    record[name] = MetricRecord({"server-round": 3})
    with pytest.raises(ProtocolError, match=f"Expected a record '{name}', got "):
        unpack_request(record)


@pytest.mark.parametrize("fingerprint", ["", "0" * 64, "\n" * 100])
def test_other_source_code_is_refused(request_to_site, fingerprint):
    record = with_fact(pack_request(request_to_site), "source-fingerprint", fingerprint)
    with pytest.raises(ProtocolError, match="server and site must run the same version"):
        unpack_request(record)


def test_other_source_code_is_refused_before_its_configuration_is_read(request_to_site):
    record = with_fact(pack_request(request_to_site), "source-fingerprint", "0" * 64)
    record["facts"]["config"] = "{}"
    with pytest.raises(ProtocolError, match="Expected source fingerprint"):
        unpack_request(record)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "[" * 100_000, "1" * 5000, '{"seed": NaN}'])
def test_a_wrong_configuration_is_a_config_error(request_to_site, text):
    with pytest.raises(ConfigError, match=r"[Cc]onfiguration"):
        unpack_request(with_fact(pack_request(request_to_site), "config", text))


def test_a_non_finite_value_in_the_configuration_is_a_config_error(request_to_site):
    values = json.loads(request_to_site.config.to_json())
    values["training"]["learning_rate"] = float("inf")
    with pytest.raises(ConfigError, match=r"Expected training\.learning_rate=inf to be finite"):
        unpack_request(with_fact(pack_request(request_to_site), "config", json.dumps(values)))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("config", b"{}", "Expected config of type str, got bytes"),
        ("server-round", True, "Expected server-round of type int, got bool"),
        ("server-round", 3.0, "Expected server-round of type int, got float"),
        ("server-round", [3], "Expected server-round of type int, got list"),
        ("server-round", -1, "Expected server-round=-1 >= 0"),
        ("source-fingerprint", 3, "Expected source-fingerprint of type str, got int"),
    ],
)
def test_request_facts_have_their_type_and_range(request_to_site, key, value, message):
    with pytest.raises(ProtocolError, match=message):
        unpack_request(with_fact(pack_request(request_to_site), key, value))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("site", 3, "Expected site of type str, got int"),
        ("server-round", True, "Expected server-round of type int, got bool"),
        ("server-round", -1, "Expected server-round=-1 >= 0"),
        ("num-patients-declared", True, "Expected num-patients-declared of type int, got bool"),
        ("num-patients-declared", 0, "Expected num-patients-declared=0 >= 1"),
        ("num-patients-declared", 10**12, "Expected num-patients-declared=1000000000000 <= 10000000"),
        ("epsilon", 3, "Expected epsilon of type float, got int"),
        ("epsilon", -0.5, "Expected epsilon=-0.5 >= 0"),
        ("epsilon", float("nan"), "Expected epsilon=nan to be finite"),
        ("epsilon", float("inf"), "Expected epsilon=inf to be finite"),
        ("delta", 1.5, "Expected delta=1.5 <= 1"),
        ("noise-multiplier", float("-inf"), "Expected noise-multiplier=-inf to be finite"),
        ("noise-multiplier", "3", "Expected noise-multiplier of type float, got str"),
    ],
)
def test_train_reply_facts_have_their_type_and_range(key, value, message):
    with pytest.raises(ProtocolError, match=message):
        unpack_train_reply(with_fact(pack_train_reply(REPLY), key, value))


@pytest.mark.parametrize("key", ["site", "server-round", "num-patients-declared", "delta", "noise-multiplier"])
def test_a_train_reply_lacking_a_fact_is_refused(key):
    with pytest.raises(ProtocolError, match=f"Expected {key} of type .*, got NoneType"):
        unpack_train_reply(without_fact(pack_train_reply(REPLY), key))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (Array(np.array([1, np.nan], np.float32)), r"Expected update\['w'\] to be finite"),
        (Array(np.array([1, np.inf], np.float32)), r"Expected update\['w'\] to be finite"),
        (Array(np.zeros((1, 2), np.float32)), "Expected 'values' of one dimension, got 2"),
        (Array(np.zeros(3, np.float32)), "Expected the shapes of update to take the 3 values that came"),
        (Array(np.zeros(2)), "Expected array 'values' of float32, got 'float64'"),
        (Array(np.zeros(2, np.int32)), "Expected array 'values' of float32, got 'int32'"),
        (Array(np.zeros(2, ">f4")), "Expected array 'values' of float32, got '>f4'"),
        (Array(np.array(["a"])), "Expected array 'values' of float32, got '<U1'"),
        (sent(npy(np.zeros(2))), "in NumPy format, of the declared shape and type"),
        (sent(npy(np.zeros(2, ">f4"))), "in NumPy format"),
        (sent(npy(np.zeros((2, 2), np.float32)), shape=(4,)), "in NumPy format"),
        (sent(npy(np.asfortranarray(np.zeros((2, 2), np.float32))), shape=(2, 2)), "in NumPy format"),
        (sent(npy(np.zeros(2, np.float32))[:-1]), "in NumPy format"),
        (sent(npy(np.zeros(2, np.float32)) + b"x"), "in NumPy format"),
        (sent(npy(np.zeros(2, np.float32))[:20]), "in NumPy format"),
        (sent(b"PK\x03\x04" + b"\0" * 20), "in NumPy format"),
        (sent(b"\x93NUMPY\x01\x00\x03\x00(((" + b"\0" * 20), "in NumPy format"),
        (sent(b"\x93NUMPY\x01\x00\x88\x13" + b"-" * 4999 + b"1"), "in NumPy format"),
        (sent(b""), "of a shape that its 0 bytes can fill"),
        (sent(npy(np.zeros(2, np.float32)), shape=(10**12,)), "of a shape that its 136 bytes can fill"),
        (sent(npy(np.zeros(2, np.float32)), shape=(10**5000,)), "of a shape that its 136 bytes can fill"),
        (sent(npy(np.zeros(2, np.float32)), shape=(-1,)), "of a shape that its 136 bytes can fill"),
        (sent(npy(np.zeros(2, np.float32)), shape=(-1, -2)), "of a shape that its 136 bytes can fill"),
        (sent(npy(np.zeros((1,) * 33, np.float32)), shape=(1,) * 33), "of a shape that its .* bytes can fill"),
        (sent(npy(np.zeros((0, 1), np.float32)), shape=(0, 10**30)), "of a shape that its 128 bytes can fill"),
    ],
)
def test_arrays_are_float32_finite_and_exactly_as_declared(array, message):
    record = with_array(array)
    with pytest.raises(ProtocolError, match=message):
        unpack_train_reply(record)


def test_a_zip_archive_of_arrays_is_refused():
    buffer = io.BytesIO()
    np.savez(buffer, w=np.zeros(2, np.float32))
    record = with_array(sent(buffer.getvalue()))
    with pytest.raises(ProtocolError, match="in NumPy format"):
        unpack_train_reply(record)


class Bomb:
    """Says so when it is unpickled."""

    exploded = False

    def __reduce__(self):
        return (setattr, (Bomb, "exploded", True))


@pytest.mark.parametrize("data", [npy(np.array([Bomb(), 1], object), allow_pickle=True), pickle.dumps(Bomb())])
@pytest.mark.parametrize("dtype", ["float32", "object"])
def test_pickles_are_never_loaded(data, dtype):
    record = with_array(sent(data, dtype=dtype))
    with pytest.raises(ProtocolError, match="Expected array 'values'"):
        unpack_train_reply(record)
    assert not Bomb.exploded
    pickle.loads(pickle.dumps(Bomb()))  # noqa: S301, the bomb works
    assert Bomb.exploded
    Bomb.exploded = False


def with_counts(counts, key="test-positives"):
    record = pack_evaluate_reply(EVALUATION)
    record["histograms"][key] = counts if isinstance(counts, Array) else Array(np.array(counts))
    return record


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2, 3, -1], "Expected test-positives to be 4 counts >= 0"),
        ([-(2**63), 0, 0, 0], "Expected test-positives to be 4 counts >= 0"),
        ([2**62, 2**62, 0, 0], "Expected test-positives to be 4 counts >= 0"),
        ([2**62] * 4, "Expected test-positives to be 4 counts >= 0"),
        ([2**63 - 1] * 2 + [1, 1], "Expected test-positives to be 4 counts >= 0"),
        ([10**7, 1, 0, 0], "Expected test-positives to be 4 counts >= 0"),
        ([1, 2, 3], r"got shape \(3,\)"),
        ([[1, 2, 3, 4]], r"got shape \(1, 4\)"),
        (7, r"got shape \(\)"),
        ([], "of int64, got 'float64'"),
        ([1.0, 2.0, 3.0, 4.0], "of int64, got 'float64'"),
        ([True] * 4, "of int64, got 'bool'"),
        (np.array([1, 2, 3, 4], np.uint64), "of int64, got 'uint64'"),
        (sent(npy(np.array([1, None, 2, 3]), allow_pickle=True), (4,), "int64"), "in NumPy format"),
    ],
)
def test_histograms_are_counts_of_plausibly_many_patients(counts, message):
    with pytest.raises(ProtocolError, match=message):
        unpack_evaluate_reply(with_counts(counts), evaluation=exact(NUM_BINS))


def test_as_many_patients_as_can_be_are_accepted():
    read = unpack_evaluate_reply(with_counts([10**7, 0, 0, 0]), evaluation=exact(NUM_BINS))
    assert read.test.positives.tolist() == [10**7, 0, 0, 0]


@pytest.mark.parametrize("num_bins", [3, 5, 100])
def test_histograms_of_another_resolution_are_refused(num_bins):
    with pytest.raises(ProtocolError, match=f"to be {num_bins} counts"):
        unpack_evaluate_reply(pack_evaluate_reply(EVALUATION), evaluation=exact(num_bins))


@pytest.mark.parametrize("key", ["test-negatives", "test-positives", "validation-negatives", "validation-positives"])
def test_every_histogram_is_there(key):
    record = pack_evaluate_reply(EVALUATION)
    del record["histograms"][key]
    with pytest.raises(ProtocolError, match=f"Expected an array '{key}'"):
        unpack_evaluate_reply(record, evaluation=exact(NUM_BINS))
    del record["histograms"]
    with pytest.raises(ProtocolError, match=r"Expected an array 'test-negatives', got \[\]"):
        unpack_evaluate_reply(record, evaluation=exact(NUM_BINS))


@settings(max_examples=200)
@given(st.data())
def test_damaged_bytes_raise_nothing_but_protocol_errors(data):
    damaged = bytearray(npy(np.arange(6, dtype=np.float32)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(
            st.sampled_from(b"()[]{}'\\\n,:-0189LTFaO<>\0\xff")
        )
    record = with_array(sent(bytes(damaged), (6,)), shape=(6,))
    try:
        update = unpack_train_reply(record).update["w"]
    except ProtocolError as error:
        assert "Expected" in str(error)  # noqa: PT017, either outcome is right
    else:
        assert update.shape == (6,)
        assert np.isfinite(update).all()


SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=4) | st.binary(max_size=4)
RECORDS = st.one_of(
    st.builds(ConfigRecord, st.dictionaries(st.sampled_from(["site", "server-round", "epsilon"]), SCALARS)),
    st.builds(MetricRecord, st.dictionaries(st.text(max_size=4), st.integers(0, 9))),
    st.builds(
        ArrayRecord,
        st.dictionaries(
            st.sampled_from(["values", "test-negatives"]),
            st.builds(
                sent, st.binary(max_size=8), st.tuples(st.integers(-3, 3)), st.sampled_from(["float32", "int64"])
            ),
        ),
    ),
)
CONTENTS = st.dictionaries(st.sampled_from(["facts", "arrays", "histograms"]), RECORDS, max_size=5)


@given(CONTENTS)
def test_arbitrary_records_raise_nothing_but_our_errors(content):
    for unpack in (
        unpack_request,
        unpack_train_reply,
        lambda record: unpack_evaluate_reply(record, evaluation=exact(4)),
    ):
        with pytest.raises((ProtocolError, ConfigError), match="Expected"):
            unpack(RecordDict(dict(content)))
