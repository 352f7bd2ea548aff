"""Feature constants from the mean direction of the features, which sites buy with a part of the privacy budget."""

import numpy as np

from shared_model.metrics.counts import FloatArray
from shared_model.network.standardisation import FeatureConstants


def constants_without(direction: FloatArray) -> FeatureConstants:
    """Return the constants that take the part along ``direction`` out of the features and leave the rest as it is.

    Without it, what all lesions have in common is most of every unit vector, and the clipped gradients are mostly about
    that; centred features tell lesions apart.

    Args:
        direction: ``(D,)``, of length 1.
    """
    projection = np.eye(len(direction)) - np.outer(direction, direction)
    return FeatureConstants(
        mean=np.zeros(len(direction), np.float32), projection=np.ascontiguousarray(projection, dtype=np.float32)
    )
