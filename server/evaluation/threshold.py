"""The operating threshold, chosen from single scores."""

import math

import numpy as np
from numpy.typing import ArrayLike

from shared_model.metrics.counts import check_scores


def threshold_for_sensitivity(labels: ArrayLike, scores: ArrayLike, target_sensitivity: float) -> float:
    """Return the highest score at which "malignant from this score on" reaches ``target_sensitivity``.

    Args:
        labels: ``(N,)``, 0 or 1, with at least one malignant lesion.
        scores: ``(N,)``, finite.
        target_sensitivity: in (0, 1].

    Raises:
        ValueError: no malignant lesion, or an argument is out of bounds.
    """
    is_malignant, values = check_scores(labels, scores)
    if not 0 < target_sensitivity <= 1:
        raise ValueError(f"Expected target_sensitivity={target_sensitivity} in (0, 1].")
    positives = np.sort(values[is_malignant])[::-1]
    if not len(positives):
        raise ValueError("Expected at least one malignant lesion, got none.")
    # The small slack keeps 0.9 * 10, which is 9.000000000000002 in other orders of rounding, from asking for 10.
    num_needed = math.ceil(target_sensitivity * len(positives) - 1e-9)
    return float(positives[num_needed - 1])
