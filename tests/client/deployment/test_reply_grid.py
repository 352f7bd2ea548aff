"""A reply leaves at the next multiple of the interval, whatever time its work took."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.deployment.reply_grid import seconds_to_wait


@given(st.floats(0, 1e5), st.floats(1e-2, 1e3))
def test_waiting_ends_on_the_grid_and_is_short(elapsed, grid):
    wait = seconds_to_wait(elapsed, grid)
    assert 0 <= wait <= grid * (1 + 1e-9)
    left = (elapsed + wait) / grid
    assert left == pytest.approx(round(left), abs=1e-6)


@given(st.floats(0, 1e5))
def test_without_a_grid_nothing_waits(elapsed):
    assert seconds_to_wait(elapsed, None) == 0
