"""From a logit and draws of the scaling to an interval of the probability."""

import numpy as np
from scipy.special import expit, logit

from shared_model.metrics.intervals import CONFIDENCE_LEVEL, ConfidenceInterval
from shared_model.release.document import ScalingUncertainty

_LEAST_PROBABILITY = 1e-12


def probability_interval(probability: float, scaling: ScalingUncertainty) -> ConfidenceInterval:
    """Return the interval of the probability of a lesion to which the network gave ``probability``, in [0, 1].

    It holds what the scaling does not know, and nothing of what the network does not know about this lesion. It is
    widened to hold the network's own probability, which a prior has drawn towards the usual scaling.
    """
    # The logits of 0 and 1 are infinite.
    inner = logit(min(max(probability, _LEAST_PROBABILITY), 1 - _LEAST_PROBABILITY))
    drawn = expit(np.array(scaling.slopes) * inner + np.array(scaling.offsets))
    rest = (1 - CONFIDENCE_LEVEL) / 2
    low, high = (float(bound) for bound in np.quantile(drawn, (rest, 1 - rest)))
    # Not the sigmoid of the logit: it may be another number in the last bit.
    return ConfidenceInterval(low=min(low, probability), high=max(high, probability))
