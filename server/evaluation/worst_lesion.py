"""From lesions to breasts and patients: one is malignant if any of its lesions is, and scores as its worst lesion."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared_model.metrics.counts import FloatArray, IntArray, check_scores


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """``G`` breasts, or patients, in the order of their numbers."""

    labels: IntArray
    """``(G,)``: 1 where a lesion is malignant."""
    scores: FloatArray
    """``(G,)``: of the worst lesion."""
    members: IntArray
    """``(G,)``: one row of each, for what all rows of a unit share."""


def worst_of(labels: ArrayLike, scores: ArrayLike, units: ArrayLike) -> Units:
    """Gather lesions by the entries of ``units`` ``(N,)``.

    Raises:
        ValueError: a label is not 0 or 1, a score is not finite, or lengths differ.
    """
    is_malignant, values = check_scores(labels, scores)
    groups: NDArray[np.int64] = np.asarray(units)
    if groups.shape != values.shape:
        raise ValueError(f"Expected units of shape {groups.shape} to be {values.shape}, one for every score.")
    _, members, position = np.unique(groups, return_index=True, return_inverse=True)
    worst, any_malignant = np.full(len(members), -np.inf), np.zeros(len(members), dtype=np.int64)
    np.maximum.at(worst, position, values)
    np.maximum.at(any_malignant, position, is_malignant.astype(np.int64))
    return Units(labels=any_malignant, scores=worst, members=members)
