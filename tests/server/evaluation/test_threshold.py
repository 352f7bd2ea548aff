"""The threshold that reaches a sensitivity, against hand numbers and a loop over all scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.evaluation.threshold import threshold_for_sensitivity


@pytest.mark.parametrize(("target", "expected"), [(1.0, 0.1), (0.9, 0.2), (0.5, 0.6), (0.01, 1.0)])
def test_hand_numbers(target, expected):
    scores = np.arange(1, 11) / 10
    labels = np.ones(10)
    assert threshold_for_sensitivity(labels, scores, target) == pytest.approx(expected)


@given(seed=st.integers(0, 2**32 - 1), target=st.floats(0.01, 1))
def test_is_the_highest_that_reaches_the_target(seed, target):
    rng = np.random.default_rng(seed)
    labels, scores = np.append(rng.integers(0, 2, 30), 1), rng.integers(0, 12, 31) / 11
    threshold = threshold_for_sensitivity(labels, scores, target)
    reached = [s for s in np.unique(scores) if (scores[labels == 1] >= s).mean() >= target - 1e-9]
    assert threshold == max(reached)


def test_needs_a_malignant_lesion():
    with pytest.raises(ValueError, match="at least one malignant"):
        threshold_for_sensitivity([0, 0], [0.1, 0.2], 0.9)
