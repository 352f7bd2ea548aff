"""The operating threshold, chosen from single scores: the score from which a lesion is called malignant."""

import math

import numpy as np
from numpy.typing import ArrayLike

from shared_model.metrics.counts import check_scores


def threshold_for_sensitivity(labels: ArrayLike, scores: ArrayLike, target_sensitivity: float) -> float:
    """Return the highest threshold that reaches ``target_sensitivity``; it is one of the scores.

    >>> threshold_for_sensitivity([1, 1, 1, 1, 0], [0.2, 0.4, 0.6, 0.8, 0.5], 0.75)
    0.4

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
    # Without the small slack a product that rounding puts just above 9 would ask for 10 lesions.
    num_needed = math.ceil(target_sensitivity * len(positives) - 1e-9)
    return float(positives[num_needed - 1])
