"""The weights of a linear head from moments with noise, by ridge regression: training in one step.

The ridge is a rule, with nothing to be tuned: as much as the noise in the second moments can weigh in any direction.
Directions in which the data vary less than that are mostly noise, and are held back. In cross-validation over training
patients of CBIS-DDSM masses half and twice as much do worse (docs/results.md).
"""

import numpy as np

from shared_model.metrics.counts import FloatArray
from shared_model.privacy.patient_moments import Moments, noise_edge

LEAST_RIDGE = 0.003
"""For each patient, also without noise: columns that nobody has must not be divided by zero."""
LOGIT_SIZE = 3.5
"""Root mean square of the logits on the training patients, such that what makes the scores of other strategies
probabilities does so here (``server.evaluation.histogram_calibration``). In cross-validation on training patients of
CBIS-DDSM masses 5 and 7 gave a worse Brier score at epsilon 8, and too low a sensitivity."""
LEAST_MEAN_SQUARE = 1e-4
"""Of the logits, for weights of length 1, below which moments do not say how large logits are: the bias alone has 0.01.
So weights are scaled to a length of ``LOGIT_SIZE`` / 0.01 at most, and no site's moments make them larger than sites
take."""


def ridge_weights(moments: Moments, *, noise_std: float, num_patients: float) -> FloatArray:
    """Return the weights ``(W,)`` that minimise squared error plus ridge.

    Of the second moments the nearest matrix without negative eigenvalues is taken, which true ones never have.

    Args:
        moments: added up over patients.
        noise_std: standard deviation of the noise in each entry of the moments' vector; 0 without privacy.
        num_patients: how many there are, about.
    """
    values, vectors = np.linalg.eigh(moments.second)
    ridge = noise_edge(noise_std, len(values)) + LEAST_RIDGE * num_patients
    weights: FloatArray = vectors @ ((vectors.T @ moments.cross) / (np.maximum(values, 0.0) + ridge))
    return weights


def as_logits(weights: FloatArray, moments: Moments, *, num_patients: float) -> FloatArray:
    """Return ``weights`` scaled so that the logits of the training patients are about ``LOGIT_SIZE`` large.

    Weights that give everybody about the same score, by ``LEAST_MEAN_SQUARE``, are returned as they are.
    """
    values, vectors = np.linalg.eigh(moments.second)
    mean_square = float(np.maximum(values, 0.0) @ (vectors.T @ weights) ** 2) / num_patients
    if not mean_square > LEAST_MEAN_SQUARE * float(weights @ weights):
        return weights
    scaled: FloatArray = weights * (LOGIT_SIZE / np.sqrt(mean_square))
    return scaled
