"""A confidence interval is valid or does not exist."""

import math

import pytest

from shared_model.metrics.intervals import ConfidenceInterval


@pytest.mark.parametrize(("low", "high"), [(0.6, 0.5), (math.nan, 0.5), (0.1, math.nan), (0.1, math.inf)])
def test_is_ordered_and_finite(low, high):
    with pytest.raises(ValueError, match=f"finite low={low} <= high={high}"):
        ConfidenceInterval(low=low, high=high)
