"""Hypothesis strategies for labels and scores of lesions, as ``(label, score)`` rows."""

import numpy as np
from hypothesis import strategies as st

TOLERANCE = 1e-12
any_scores = st.integers(0, 20).map(lambda step: step / 20) | st.floats(0, 1)
"""Half of them on a grid, so that ties and scores on bin edges are common."""
scored_lesions = st.lists(st.tuples(st.integers(0, 1), any_scores), max_size=40)
both_classes = scored_lesions.filter(lambda rows: {label for label, _ in rows} == {0, 1})
bin_numbers = st.integers(1, 50)


def columns(rows):
    """Return labels ``(N,)`` and scores ``(N,)`` of the rows."""
    return np.array([label for label, _ in rows], dtype=int), np.array([score for _, score in rows], dtype=float)
