"""Class-conditional conformal sets: which labels a score leaves possible (Vovk 2012, arXiv 1209.2673, Mondrian).

For lesions that are exchangeable with the calibrating ones of their class, the set holds the true label with
probability ``level`` at least, whatever the network. It says nothing about one lesion, nor about other lesions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared_model.metrics.counts import FloatArray


@dataclass(frozen=True, kw_only=True)
class ConformalSet:
    """The labels that are possible at the level."""

    has_benign: bool
    has_malignant: bool

    @property
    def is_single(self) -> bool:
        """Whether one label is left; both mean "cannot tell", and none "like neither"."""
        return self.has_benign != self.has_malignant


def conformal_set(
    score: float, *, benign_scores: Sequence[float], malignant_scores: Sequence[float], level: float
) -> ConformalSet:
    """Return the set of a lesion.

    Args:
        score: the network's probability.
        benign_scores: of calibrating lesions that are benign.
        malignant_scores: of those that are malignant.
        level: in (0, 1).
    """
    benign, malignant = np.asarray(benign_scores), np.asarray(malignant_scores)
    return ConformalSet(
        has_benign=_p_value(benign, score) > 1 - level, has_malignant=_p_value(1 - malignant, 1 - score) > 1 - level
    )


def _p_value(nonconformities: FloatArray, nonconformity: float) -> float:
    """Return the share of lesions, this one among them, that are at least as strange."""
    return float((np.sum(nonconformities >= nonconformity) + 1) / (len(nonconformities) + 1))
