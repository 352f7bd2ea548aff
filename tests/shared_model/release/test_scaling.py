"""The interval of a probability: quantiles of the draws, and the network's own probability in it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.release.document import ScalingUncertainty
from shared_model.release.scaling import probability_interval


def test_by_hand():
    # At one half, logit 0, only the offsets matter: -1 to 1 in 101 equal steps, 95 % of which lie within 0.95.
    draws = ScalingUncertainty(source="x", slopes=(1.0,) * 101, offsets=tuple(np.linspace(-1, 1, 101)))
    found = probability_interval(0.5, draws)
    assert found.low == pytest.approx(1 / (1 + np.exp(0.95)), abs=1e-4)
    assert found.high == pytest.approx(1 / (1 + np.exp(-0.95)), abs=1e-4)


@given(st.floats(0, 1), st.floats(0.1, 3), st.floats(-3, 3))
def test_it_holds_the_probability_even_where_all_draws_lie_beside(probability, slope, offset):
    """To the last bit, and where a sigmoid has rounded to 0 or 1: a reading whose numbers differ does not exist."""
    draws = ScalingUncertainty(source="x", slopes=(slope,) * 20, offsets=(offset,) * 20)
    found = probability_interval(probability, draws)
    assert 0 <= found.low <= probability <= found.high <= 1


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_it_holds_what_is_certain(probability):
    draws = ScalingUncertainty(source="x", slopes=(1.0,) * 20, offsets=(0.0,) * 20)
    found = probability_interval(probability, draws)
    assert found.low <= probability <= found.high
