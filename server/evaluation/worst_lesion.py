"""From lesions to breasts and patients: one is malignant if any of its lesions is, and its score is its worst lesion's.

For example, a patient with a benign lesion scored 0.7 and a malignant one scored 0.2 is malignant with score 0.7.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared_model.metrics.counts import FloatArray, IntArray, check_scores


@dataclass(frozen=True, kw_only=True, eq=False)
class AnalysisUnits:
    """``G`` breasts, or patients, in the order of their numbers: the units that a metric counts."""

    labels: IntArray
    """``(G,)``: 1 where a lesion of the unit is malignant."""
    scores: FloatArray
    """``(G,)``: the highest score of the unit's lesions."""
    first_rows: IntArray
    """``(G,)``: the row of the unit's first lesion, from which to read what all its lesions share."""


def score_by_worst_lesion(labels: ArrayLike, scores: ArrayLike, units: ArrayLike) -> AnalysisUnits:
    """Gather lesions by breast or patient.

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, finite.
        units: ``(N,)``: the number of every lesion's breast or patient.

    Raises:
        ValueError: a label is not 0 or 1, a score is not finite, or lengths differ.

    >>> patients = score_by_worst_lesion(labels=[0, 1, 0], scores=[0.7, 0.2, 0.4], units=[5, 5, 8])
    >>> patients.labels.tolist(), patients.scores.tolist()
    ([1, 0], [0.7, 0.4])
    """
    is_malignant, values = check_scores(labels, scores)
    numbers: NDArray[np.int64] = np.asarray(units)
    if numbers.shape != values.shape:
        raise ValueError(f"Expected units of shape {numbers.shape} to be {values.shape}, one for every score.")
    _, first_rows, unit_of_lesion = np.unique(numbers, return_index=True, return_inverse=True)
    highest, any_malignant = np.full(len(first_rows), -np.inf), np.zeros(len(first_rows), dtype=np.int64)
    np.maximum.at(highest, unit_of_lesion, values)
    np.maximum.at(any_malignant, unit_of_lesion, is_malignant.astype(np.int64))
    return AnalysisUnits(labels=any_malignant, scores=highest, first_rows=first_rows)
