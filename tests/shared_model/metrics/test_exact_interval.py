"""The exact interval: by its definition, and that it holds what it promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from shared_model.metrics.exact_interval import exact_interval


@given(st.integers(1, 200).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_at_each_end_what_was_seen_or_more_extreme_has_probability_one_fortieth(case):
    count, total = case
    interval = exact_interval(count, total)
    assert interval.low <= count / total <= interval.high
    if count > 0:
        assert binom.sf(count - 1, total, interval.low) == pytest.approx(0.025)
    if count < total:
        assert binom.cdf(count, total, interval.high) == pytest.approx(0.025)


def test_none_and_all_reach_the_end():
    assert exact_interval(0, 7).low == 0
    assert exact_interval(7, 7).high == 1


@pytest.mark.parametrize(("count", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_numbers_are_refused(count, total):
    with pytest.raises(ValueError, match="Expected count"):
        exact_interval(count, total)
