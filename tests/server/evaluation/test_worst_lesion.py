"""Breasts and patients are as malignant as their worst lesion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.evaluation.worst_lesion import score_by_worst_lesion


def test_by_hand():
    units = score_by_worst_lesion([0, 1, 0, 0], [0.2, 0.1, 0.7, 0.3], [7, 7, 3, 3])
    assert units.labels.tolist() == [0, 1]
    assert units.scores.tolist() == [0.7, 0.2]
    assert units.first_rows.tolist() == [2, 0]


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=30))
def test_equals_a_loop(rows):
    labels, scores, groups = (np.array(column) for column in zip(*rows, strict=True))
    units = score_by_worst_lesion(labels, scores, groups)
    names = sorted(set(groups))
    assert units.labels.tolist() == [max(labels[groups == name]) for name in names]
    assert units.scores.tolist() == [max(scores[groups == name]) for name in names]
    assert groups[units.first_rows].tolist() == names


def test_refuses_other_lengths():
    with pytest.raises(ValueError, match="units of shape"):
        score_by_worst_lesion([0, 1], [0.1, 0.2], [1])
