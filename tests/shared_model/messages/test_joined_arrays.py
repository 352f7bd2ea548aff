"""The arrays of a message as one: equal to the last bit on the other side, and no list that lies is believed."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared_model.config.choices import Backbone
from shared_model.config.composition import compose
from shared_model.errors import ProtocolError
from shared_model.messages import Request, pack_request, unpack_request
from shared_model.messages.joined_arrays import join_arrays, split_arrays
from shared_model.network import build_network, constants_state, trainable_state
from shared_model.vocabulary import clinical_width

BITS = st.integers(0, 2**32 - 1).map(np.uint32)
GROUP = st.dictionaries(
    st.text(max_size=5),
    hnp.arrays(
        np.uint32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3), elements=st.integers(0, 2**32 - 1)
    ),
    max_size=3,
)
UPDATE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([7, 8])}


def joined():
    return join_arrays({"site": "A"}, {"update": UPDATE})


def split(records, *groups):
    return split_arrays(records, records["facts"], groups or ("update",))


@given(GROUP, GROUP)
def test_every_finite_value_arrives_to_the_last_bit(first, second):
    """Also -0.0 and the numbers below the smallest normal one, and in the order of the sender."""
    groups = {}
    for name, patterns in (("first", first), ("second", second)):
        groups[name] = {
            key: np.where(np.isfinite(bits.view(np.float32)), bits, 1).view(np.float32)
            for key, bits in patterns.items()
        }
    for sent, read in zip(groups.values(), split(join_arrays({}, groups), "first", "second"), strict=True):
        assert list(read) == list(sent)
        for key, array in sent.items():
            assert (read[key].dtype, read[key].shape) == (np.float32, array.shape)
            assert read[key].tobytes() == array.tobytes()
            assert read[key].flags.c_contiguous


def test_the_parameters_of_the_largest_network_arrive_to_the_last_bit():
    config = compose(["preset=smoke", f"model.backbone={Backbone.RESNET18}", "model.image_components=0"])
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    parameters, constants = trainable_state(network), constants_state(network)
    read = unpack_request(
        pack_request(Request(config=config, server_round=1, parameters=parameters, constants=constants))
    )
    assert list(read.parameters) == list(parameters)
    assert all(read.parameters[name].tobytes() == array.tobytes() for name, array in parameters.items())


def test_a_request_is_six_objects_whatever_the_network():
    """Each is a request over the network of its own, to Flower's server and from it."""
    config = compose(["preset=smoke", "model.fusion=mid", "model.image_components=0"])
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    parameters, constants = trainable_state(network), constants_state(network)
    assert len(parameters) > 1
    message = pack_request(Request(config=config, server_round=1, parameters=parameters, constants=constants))
    # The records, the facts, and the arrays: their record, the array, and its bytes; the message itself comes on top.
    assert len(get_all_nested_objects(message)) == 5


def test_arrays_of_any_memory_are_joined_in_c_order():
    parameters = {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.arange(8, dtype=np.float32)[::2]}
    (read,) = split(join_arrays({}, {"update": parameters}))
    for name, array in parameters.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named(value):
    broken = {"w": np.zeros(2, np.float32), "b": np.float32([0, value])}
    with pytest.raises(ProtocolError, match=r"Expected update\['b'\] to be finite"):
        split(join_arrays({}, {"update": broken}))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("names", ["w"], "dimensions of each of update"),
        ("names", ["w", "w"], "each once"),
        ("names", ["w", "b" * 201], "names of update of at most 200 characters"),
        (
            "names",
            [f"a{number}" for number in range(2001)],
            "update-names to be a list of at most 2000 values of type str",
        ),
        ("names", [1, 2], "update-names to be a list .* of type str"),
        ("names", "wb", "update-names to be a list"),
        ("dimensions", [2], "dimensions of each of update"),
        ("dimensions", [3, 0], "take the 8 values"),
        ("dimensions", [9, 1], "Expected 0 to 8 dimensions"),
        ("dimensions", [2.0, 1.0], "update-dimensions to be a list"),
        ("dimensions", [True, True], "update-dimensions to be a list"),
        ("sizes", [2, 3], "a size from 0 for each dimension"),
        ("sizes", [2, 3, 3], "take the 8 values"),
        ("sizes", [3, 2, 1], "take the 8 values"),
        ("sizes", [2**31, 3, 2], "a size from 0 for each dimension"),
        ("sizes", [2**30, 2**30, 0], r"fewer than 2\^31 values"),
        ("sizes", [1] * 16_001, "update-sizes to be a list of at most 16000 values"),
    ],
)
def test_lists_that_lie_are_refused(key, value, message):
    records = joined()
    records["facts"][f"update-{key}"] = value
    with pytest.raises(ProtocolError, match=message):
        split(records)


@pytest.mark.parametrize("key", ["names", "dimensions", "sizes"])
def test_every_list_is_there(key):
    records = joined()
    del records["facts"][f"update-{key}"]
    with pytest.raises(ProtocolError, match=f"Expected update-{key} to be a list"):
        split(records)


def test_an_array_without_values_claims_no_shape_that_numpy_cannot_hold():
    """NumPy raises for sizes of 2^30 beside a size of 0, and the run would have ended."""
    records = join_arrays({}, {"update": {"w": np.zeros((0, 1, 1, 1), np.float32)}})
    records["facts"]["update-sizes"] = [0, 2**30, 2**30, 2**30]
    with pytest.raises(ProtocolError, match=r"fewer than 2\^31 values"):
        split(records)


@pytest.mark.parametrize(
    "arrays",
    [
        ArrayRecord(),
        ArrayRecord({"other": Array(np.zeros(8, np.float32))}),
        ArrayRecord({name: Array(np.zeros(8, np.float32)) for name in ("values", "more")}),
    ],
)
def test_there_is_one_array_and_no_other(arrays):
    records = RecordDict({**joined(), "arrays": arrays})
    with pytest.raises(ProtocolError, match="Expected 'values' alone in the record 'arrays'"):
        split(records)


def test_what_arrived_belongs_to_the_receiver():
    records = joined()
    split(records)[0]["b"][:] = 0
    assert split(records)[0]["b"].tolist() == [7, 8]
