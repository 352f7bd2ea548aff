"""What is bounded by the median length of a round: who is longer is shortened to it, and named if far longer."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared_model.metrics.counts import FloatArray

FEWEST_TO_JUDGE = 3
"""Of two sites nobody can say which one lies."""
_FAR = 3.0
"""Something is far longer than the others' if it is so many times as long as its noise and their median signal say."""


def shortening(lengths: FloatArray) -> FloatArray:
    """Return the factors ``(S,)``, in (0, 1], that make none of ``lengths`` ``(S,)`` longer than their median."""
    median = np.median(lengths)
    return np.divide(median, lengths, out=np.ones_like(lengths), where=lengths > median)


def far_longer(lengths: FloatArray, noise: FloatArray) -> NDArray[np.bool_]:
    """Return which of ``lengths`` ``(S,)`` are far longer than noise of the lengths ``noise`` ``(S,)`` explains."""
    signal = np.median(np.sqrt(np.maximum(lengths**2 - noise**2, 0.0)))
    is_far: NDArray[np.bool_] = lengths > _FAR * np.sqrt(noise**2 + signal**2)
    return is_far


def name_far(sites: Sequence[str], is_far: NDArray[np.bool_], sent: str, verb: str) -> tuple[str, ...]:
    """Return a line for each site of ``is_far``: what it ``sent``, such as ``an update``, and ``was`` or ``were``."""
    return tuple(
        f"{site} sent {sent} far longer than those of the others, which {verb} shortened to their median"
        for site, far in zip(sites, is_far, strict=True)
        if far
    )
