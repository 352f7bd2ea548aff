"""From a logit and draws of the scaling to an interval of the probability."""

import numpy as np
from scipy.special import expit

from shared_model.metrics.intervals import CONFIDENCE_LEVEL, ConfidenceInterval
from shared_model.release.document import ScalingUncertainty


def probability_interval(logit: float, scaling: ScalingUncertainty) -> ConfidenceInterval:
    """Return the interval of the probability of a lesion with the network's ``logit``.

    It holds what the scaling does not know, and nothing of what the network does not know about this lesion. It is
    widened to hold the network's own probability, which a prior has drawn towards the usual scaling.
    """
    drawn = expit(np.array(scaling.slopes) * logit + np.array(scaling.offsets))
    rest = (1 - CONFIDENCE_LEVEL) / 2
    low, high = (float(bound) for bound in np.quantile(drawn, (rest, 1 - rest)))
    probability = float(expit(logit))
    return ConfidenceInterval(low=min(low, probability), high=max(high, probability))
