"""Each reader alone: what it takes, and the name and bound in what it refuses."""

import functools
import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from shared_model.config.composition import compose
from shared_model.errors import ProtocolError
from shared_model.messages.checked_values import (
    MAX_PATIENTS,
    decode_array,
    read_counts,
    read_facts,
    read_noisy_counts,
    read_scalar,
    require_modest,
)
from shared_model.messages.records import unpack_evaluate_reply, unpack_request, unpack_train_reply

read_noisy = functools.partial(read_noisy_counts, noise_std=2.0)
EVALUATE = functools.partial(unpack_evaluate_reply, evaluation=compose(["preset=smoke"]).evaluation)
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


@pytest.mark.parametrize(("read", "dtype"), [(read_counts, np.int64), (read_noisy, np.float64)])
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


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -2.0 * MAX_PATIENTS, 1e300, -13.0])
def test_noisy_counts_are_finite_and_negative_by_their_noise_alone(value):
    """Of noise with deviation 2 in one bin, 12.88 is the most that it takes off but for one time in 10^9."""
    assert read_noisy(ArrayRecord({"k": Array(np.array([-12.8]))}), "k", 1).tolist() == [-12.8]
    with pytest.raises(ProtocolError, match=r"Expected k to be 1 counts from -12\.88 \(noise alone\) to 10000000, got"):
        read_noisy(ArrayRecord({"k": Array(np.array([value]))}), "k", 1)


def test_the_bound_of_noise_is_that_of_the_normal_tail():
    """Against the exact tail: noise goes below it with a probability of at most 10^-9, and of at least 10^-11."""
    for num_bins in (2, 50, 1000):
        least = math.sqrt(2 * math.log(num_bins / 1e-9))
        assert 1e-11 < num_bins * stats.norm.sf(least) <= 1e-9
        for value, fits in ((-least * 2 + 1e-9, True), (-least * 2 - 1e-6, False)):
            record = ArrayRecord({"k": Array(np.append(np.zeros(num_bins - 1), value))})
            if fits:
                read_noisy(record, "k", num_bins)
                continue
            with pytest.raises(ProtocolError, match="noise alone"):
                read_noisy(record, "k", num_bins)


class TestModest:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (RecordDict({str(n): ConfigRecord() for n in range(9)}), "Expected at most 8 records, got 9"),
            (
                RecordDict({"facts": ConfigRecord({str(n): n for n in range(2001)})}),
                "Expected at most 2000 entries in a record, got 2001",
            ),
            (
                RecordDict({"facts": ConfigRecord({"n" * 201: 1})}),
                "Expected names of at most 200 characters, got 201",
            ),
            (RecordDict({"n" * 201: ConfigRecord()}), "Expected names of at most 200 characters, got 201"),
        ],
    )
    def test_more_than_any_message_of_ours_is_refused(self, content, message):
        with pytest.raises(ProtocolError, match=message):
            require_modest(content)

    def test_as_much_as_is_allowed_passes(self):
        facts = ConfigRecord({f"{n:0200}": n for n in range(2000)})
        require_modest(RecordDict({"f" * 200: facts, **{str(n): ConfigRecord() for n in range(7)}}))

    @pytest.mark.parametrize(
        "unpack", [unpack_request, unpack_train_reply, EVALUATE], ids=["request", "train", "evaluate"]
    )
    def test_every_message_is_measured_before_it_is_read(self, unpack):
        with pytest.raises(ProtocolError, match="Expected at most 8 records, got 9"):
            unpack(RecordDict({str(n): ConfigRecord() for n in range(9)}))


def test_exact_counts_are_not_negative():
    with pytest.raises(ProtocolError, match="Expected k to be 1 counts >= 0"):
        read_counts(ArrayRecord({"k": Array(np.array([-1]))}), "k", 1)
