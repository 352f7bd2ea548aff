"""Arithmetic on named arrays, against numpy in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load

from shared_model.network import named_arrays
from shared_model.network.named_arrays import to_safetensors

FINITE = st.floats(-1e6, 1e6, width=32)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def sets(draw, count=1):
    """Draw ``count`` parameter sets of one structure."""
    shapes = draw(st.dictionaries(st.text(max_size=4), SHAPES, max_size=3))
    return [
        {name: draw(hnp.arrays(np.float32, shape, elements=FINITE)) for name, shape in shapes.items()}
        for _ in range(count)
    ]


def flat(parameters):
    return np.concatenate([np.zeros(0), *(np.ravel(array).astype(np.float64) for array in parameters.values())])


def test_hand_numbers():
    left = {"w": np.array([1, 2], dtype=np.float32), "b": np.array([[3]], dtype=np.float32)}
    right = {"w": np.array([10, 20], dtype=np.float32), "b": np.array([[30]], dtype=np.float32)}
    assert flat(named_arrays.add(left, right)).tolist() == [11, 22, 33]
    assert flat(named_arrays.difference(right, left)).tolist() == [9, 18, 27]
    assert flat(named_arrays.scale(left, -2)).tolist() == [-2, -4, -6]
    assert flat(named_arrays.zeros_like(left)).tolist() == [0, 0, 0]
    assert named_arrays.l2_norm({"w": np.array([3], dtype=np.float32), "b": np.array([4], dtype=np.float32)}) == 5


@given(sets(2), FINITE)
def test_arithmetic_keeps_names_order_shapes_and_float32(pair, factor):
    left, right = pair
    for result in (
        named_arrays.add(left, right),
        named_arrays.difference(left, right),
        named_arrays.scale(left, factor),
        named_arrays.zeros_like(left),
        named_arrays.clip(left, 1.0),
    ):
        assert list(result) == list(left)
        assert all(result[name].shape == left[name].shape for name in left)
        assert all(result[name].dtype == np.float32 for name in left)


@given(sets(2))
def test_difference_undoes_add(pair):
    left, right = pair
    restored = flat(named_arrays.difference(named_arrays.add(left, right), right))
    np.testing.assert_allclose(restored, flat(left), rtol=0, atol=1.0)


@given(sets())
def test_operations_leave_their_arguments_alone(single):
    (parameters,) = single
    before = flat(parameters)
    named_arrays.add(parameters, parameters)
    named_arrays.scale(parameters, 3.0)
    named_arrays.clip(parameters, 0.1)
    assert flat(parameters).tolist() == before.tolist()


@given(sets())
def test_norm_is_that_of_the_concatenation(single):
    (parameters,) = single
    assert named_arrays.l2_norm(parameters) == pytest.approx(np.linalg.norm(flat(parameters)), rel=1e-12)


def test_norm_neither_overflows_nor_loses_small_entries():
    assert named_arrays.l2_norm({"w": np.array([3e38, 3e38], dtype=np.float32)}) == pytest.approx(
        3e38 * 2**0.5, rel=1e-6
    )
    assert named_arrays.l2_norm({"w": np.full(2, 1e-30, dtype=np.float32)}) == pytest.approx(1e-30 * 2**0.5, rel=1e-6)
    assert named_arrays.l2_norm({}) == 0


@given(sets(), st.floats(1e-3, 1e7))
def test_clip_never_exceeds_the_bound_keeps_direction_and_leaves_small_sets(single, clipping_norm):
    (parameters,) = single
    norm, clipped = named_arrays.l2_norm(parameters), named_arrays.clip(parameters, clipping_norm)
    assert named_arrays.l2_norm(clipped) <= clipping_norm
    if norm <= clipping_norm:
        assert flat(clipped).tolist() == flat(parameters).tolist()
    else:
        expected = flat(parameters) * clipping_norm / norm
        np.testing.assert_allclose(flat(clipped), expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize(("value", "is_finite"), [(0.0, True), (3e38, True), (np.nan, False), (-np.inf, False)])
def test_is_finite(value, is_finite):
    assert named_arrays.is_finite({"a": np.ones(2, np.float32), "b": np.array([0, value], np.float32)}) is is_finite


@pytest.mark.parametrize("operation", [named_arrays.add, named_arrays.difference, named_arrays.require_same_structure])
@pytest.mark.parametrize(
    ("right", "message"),
    [
        ({"a": np.zeros(2, np.float32)}, r"Expected equal names in equal order, got \['a', 'b'\] and \['a'\]"),
        ({"b": np.zeros(3, np.float32), "a": np.zeros(2, np.float32)}, r"got \['a', 'b'\] and \['b', 'a'\]"),
        (
            {"a": np.zeros(1, np.float32), "b": np.zeros(3, np.float32)},
            r"Expected equal shapes of a, got \(2,\) and \(1,",
        ),
    ],
)
def test_sets_of_other_structure_do_not_combine(operation, right, message):
    left = {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match=message):
        operation(left, right)


def test_arrays_in_any_order_of_memory_are_read_back_as_they_were():
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays = {
        "scalar": np.float32(3) * np.ones(()),
        "plain": whole,
        "transposed": whole.T,
        "strided": whole[::2, ::3],
        "fortran": np.asfortranarray(whole),
    }
    found = load(to_safetensors(arrays, {"a": "b"}))
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
