"""Each reader alone: what it takes, and the name and bound in what it refuses."""

import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared_model.errors import ProtocolError
from shared_model.messages.checked_values import (
    MAX_PATIENTS,
    decode_array,
    read_counts,
    read_facts,
    read_noisy_counts,
    read_parameters,
    read_scalar,
    to_array_record,
)

DTYPES = st.sampled_from([np.float32, np.float64, np.int64])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3)


def test_facts_are_the_record_of_single_values():
    assert read_facts(RecordDict({"facts": ConfigRecord({"site": "MGH"})}))["site"] == "MGH"
    with pytest.raises(ProtocolError, match=r"Expected a record 'facts', got \['other'\]"):
        read_facts(RecordDict({"other": ConfigRecord({})}))


@pytest.mark.parametrize(("value", "kind"), [(3, int), (0.5, float), ("MGH", str)])
def test_a_scalar_of_its_type_passes(value, kind):
    assert read_scalar({"key": value}, "key", kind) == value


@pytest.mark.parametrize(
    ("value", "kind", "bounds", "message"),
    [
        (True, int, {}, "key of type int, got bool"),
        (1, float, {}, "key of type float, got int"),
        (math.nan, float, {}, "key=nan to be finite"),
        (-1, int, {"low": 0}, "key=-1 >= 0"),
        (2.5, float, {"low": 0, "high": 1}, "key=2.5 <= 1"),
    ],
)
def test_a_scalar_of_another_type_or_range_is_refused(value, kind, bounds, message):
    with pytest.raises(ProtocolError, match=f"Expected {message}"):
        read_scalar({"key": value}, "key", kind, **bounds)
    with pytest.raises(ProtocolError, match="got NoneType"):
        read_scalar({}, "key", kind, **bounds)


@given(st.data(), DTYPES, SHAPES)
def test_an_array_that_numpy_wrote_is_read_as_numpy_reads_it(data, dtype, shape):
    array = data.draw(hnp.arrays(dtype, shape))
    read = decode_array("w", Array(array), np.dtype(dtype))
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(read, array)


def test_a_decoded_array_is_a_copy():
    sent = Array(np.zeros(3, np.float32))
    decode_array("w", sent, np.dtype(np.float32))[:] = 1
    assert decode_array("w", sent, np.dtype(np.float32)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (Array(np.zeros(2)), "array 'w' of float32, got 'float64'"),
        (Array(np.zeros((1,) * 9, np.float32)), "array 'w' of a shape that its"),
        (Array("float32", (3,), "numpy.ndarray", Array(np.zeros(2, np.float32)).data), "'w' in NumPy format"),
    ],
)
def test_an_array_of_another_type_or_shape_is_refused(array, message):
    with pytest.raises(ProtocolError, match=message):
        decode_array("w", array, np.dtype(np.float32))


def test_parameters_are_read_back_in_order_from_any_memory():
    parameters = {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.ones(2, np.float32)}
    read = read_parameters(RecordDict({"update": to_array_record(parameters)}), "update")
    assert list(read) == ["w", "b"]
    np.testing.assert_array_equal(read["w"], parameters["w"])
    assert read["w"].flags.c_contiguous


def test_parameters_are_finite_and_there():
    broken = {"w": np.array([0, np.inf], np.float32)}
    with pytest.raises(ProtocolError, match=r"Expected update\['w'\] to be finite"):
        read_parameters(RecordDict({"update": to_array_record(broken)}), "update")
    with pytest.raises(ProtocolError, match=r"Expected a record 'update', got \[\]"):
        read_parameters(RecordDict(), "update")


@pytest.mark.parametrize(("read", "dtype"), [(read_counts, np.int64), (read_noisy_counts, np.float64)])
class TestCounts:
    def test_of_their_type_and_number_pass(self, read, dtype):
        counts = np.array([0, 5, MAX_PATIENTS - 5], dtype)
        np.testing.assert_array_equal(read(ArrayRecord({"test-positives": Array(counts)}), "test-positives", 3), counts)

    def test_of_another_number_or_missing_are_refused(self, read, dtype):
        record = ArrayRecord({"test-positives": Array(np.zeros(3, dtype))})
        with pytest.raises(ProtocolError, match=r"Expected test-positives to be 4 .*counts.*, got shape \(3,\)"):
            read(record, "test-positives", 4)
        with pytest.raises(ProtocolError, match=r"Expected an array 'test-negatives', got \['test-positives'\]"):
            read(record, "test-negatives", 3)

    def test_beyond_any_hospital_are_refused(self, read, dtype):
        record = ArrayRecord({"k": Array(np.array([MAX_PATIENTS + 1, 0], dtype))})
        with pytest.raises(ProtocolError, match="Expected k to be 2 "):
            read(record, "k", 2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -2.0 * MAX_PATIENTS])
def test_noisy_counts_may_be_negative_but_are_finite_and_bounded(value):
    assert read_noisy_counts(ArrayRecord({"k": Array(np.array([-5.0]))}), "k", 1).tolist() == [-5.0]
    with pytest.raises(ProtocolError, match="Expected k to be 1 finite counts"):
        read_noisy_counts(ArrayRecord({"k": Array(np.array([value]))}), "k", 1)


def test_exact_counts_are_not_negative():
    with pytest.raises(ProtocolError, match="Expected k to be 1 counts >= 0"):
        read_counts(ArrayRecord({"k": Array(np.array([-1]))}), "k", 1)
