"""From ranks to probabilities: the scale of the final logits, found on public lesions, so that it costs no privacy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from shared_model.metrics.counts import check_scores

_LEAST_PROBABILITY = 1e-12
"""Closer to 0 or 1 a probability has no logit worth the name in float64."""


@dataclass(frozen=True, kw_only=True)
class LogitScale:
    """Logits ``l`` become ``scale * l + offset``."""

    scale: float
    offset: float


def platt_scale(labels: ArrayLike, scores: ArrayLike) -> LogitScale | None:
    """Return the scale on which the logits of ``scores`` fit ``labels`` best (Platt 1999), with his smoothed targets.

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, probabilities in [0, 1].

    Returns:
        None where a class is missing, or where higher scores do not mean more malignant lesions.

    Raises:
        ValueError: a label is not 0 or 1, a score is not in [0, 1], or lengths differ.
    """
    is_malignant, probabilities = check_scores(labels, scores)
    if len(probabilities) and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise ValueError("Expected scores in [0, 1].")
    num_positives, num_negatives = int(is_malignant.sum()), int((~is_malignant).sum())
    if not num_positives or not num_negatives:
        return None
    logits = logit(np.clip(probabilities, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY))
    targets = np.where(is_malignant, (num_positives + 1) / (num_positives + 2), 1 / (num_negatives + 2))
    # A lesion with target t counts t times as malignant and 1 - t times as benign.
    fit = LogisticRegression(C=np.inf).fit(
        np.tile(logits, 2)[:, None],
        np.repeat([1, 0], len(logits)),
        sample_weight=np.concatenate((targets, 1 - targets)),
    )
    scale = float(fit.coef_[0, 0])
    return LogitScale(scale=scale, offset=float(fit.intercept_[0])) if scale > 0 else None
