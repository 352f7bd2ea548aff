"""Platt scaling: the final scores become probabilities, by a line through the logits.

The line is fitted on public lesions, so it costs no privacy. It has a positive slope, so it keeps the order of the
scores and every ranking metric. For example, a network that says 0.99 where 80 % of the lesions are malignant is
too sure: a slope below 1 moves its scores towards the middle.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from shared_model.metrics.counts import FloatArray, check_scores

_LEAST_PROBABILITY = 1e-12
"""Scores are moved this far from 0 and 1, where the logit is infinite."""


@dataclass(frozen=True, kw_only=True)
class PlattScaling:
    """A logit ``l`` becomes ``scale * l + offset``."""

    scale: float
    """Positive."""
    offset: float

    def probabilities(self, logits: ArrayLike) -> FloatArray:
        """Return the probabilities of scaled ``logits`` ``(N,)``."""
        scaled: FloatArray = expit(self.scale * np.asarray(logits, dtype=np.float64) + self.offset)
        return scaled


def finite_logits(scores: ArrayLike) -> FloatArray:
    """Return the logits of ``scores`` in [0, 1], of which 0 and 1 are moved a little inside."""
    logits: FloatArray = logit(np.clip(scores, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY))
    return logits


def smoothed_targets(labels: ArrayLike, scores: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return targets and finite logits ``(N,)`` of lesions: Platt's targets (1999) lie inside (0, 1).

    So a fit stays finite where the classes do not overlap.

    Raises:
        ValueError: a label is not 0 or 1, a score is not in [0, 1], or lengths differ.
    """
    is_malignant, probabilities = check_scores(labels, scores)
    if len(probabilities) and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise ValueError("Expected scores in [0, 1].")
    num_positives, num_negatives = int(is_malignant.sum()), int((~is_malignant).sum())
    targets = np.where(is_malignant, (num_positives + 1) / (num_positives + 2), 1 / (num_negatives + 2))
    return targets, finite_logits(probabilities)


def fit_platt_scaling(labels: ArrayLike, scores: ArrayLike) -> PlattScaling | None:
    """Return the scaling with which ``scores`` fit ``labels`` best (Platt 1999, with his smoothed targets).

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, probabilities in [0, 1].

    Returns:
        None where a class is missing, or where malignant lesions do not have the higher scores.

    Raises:
        ValueError: a label is not 0 or 1, a score is not in [0, 1], or lengths differ.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415, takes a while, and few runs fit a line

    targets, logits = smoothed_targets(labels, scores)
    is_malignant = np.asarray(labels) == 1
    if not is_malignant.any() or is_malignant.all():
        return None
    # scikit-learn takes whole labels: a lesion with target t counts t times as malignant and 1 - t times as benign.
    regression = LogisticRegression(C=np.inf).fit(
        np.tile(logits, 2)[:, None],
        np.repeat([1, 0], len(logits)),
        sample_weight=np.concatenate((targets, 1 - targets)),
    )
    scale = float(regression.coef_[0, 0])
    return PlattScaling(scale=scale, offset=float(regression.intercept_[0])) if scale > 0 else None
