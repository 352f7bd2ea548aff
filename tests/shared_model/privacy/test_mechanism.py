"""Mechanisms: bounds, and counting equal steps together."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.privacy.mechanism import merge_equal_steps, require_delta
from tests.privacy_examples import make_mechanism

steps = st.tuples(st.sampled_from([1.0, 2.0]), st.sampled_from([0.5, 1.0]), st.integers(1, 9))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("noise_multiplier", 0.0, "noise_multiplier=0.0 > 0"),
        ("noise_multiplier", math.inf, "noise_multiplier=inf to be finite"),
        ("noise_multiplier", math.nan, "noise_multiplier=nan to be finite"),
        ("sampling_rate", 0.0, r"sampling_rate=0.0 in \(0, 1\]"),
        ("sampling_rate", 1.1, r"sampling_rate=1.1 in \(0, 1\]"),
        ("num_steps", 0, "num_steps=0 >= 1"),
    ],
)
def test_a_mechanism_out_of_bounds_is_refused(field, value, message):
    with pytest.raises(ValueError, match=f"Expected {message}"):
        dataclasses.replace(make_mechanism(1.0), **{field: value})


@given(st.lists(steps, max_size=8))
def test_merging_counts_every_step_once(rows):
    merged = merge_equal_steps(make_mechanism(*row) for row in rows)
    kinds = [(part.noise_multiplier, part.sampling_rate) for part in merged]
    assert kinds == list(dict.fromkeys((noise, rate) for noise, rate, _ in rows))
    for part in merged:
        expected = sum(
            count for noise, rate, count in rows if (noise, rate) == (part.noise_multiplier, part.sampling_rate)
        )
        assert part.num_steps == expected


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_is_a_probability_and_neither_sure_nor_impossible(delta):
    with pytest.raises(ValueError, match=rf"Expected delta={delta} in \(0, 1\)"):
        require_delta(delta)
