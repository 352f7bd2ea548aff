"""The sum over patients of their mean feature vector, whose direction is the mean that all patients have in common.

Frozen features of mammograms point in nearly the same direction: their mean is most of every vector. The server takes
it out of the features before training, so that gradients are about what differs between lesions. Only the direction of
the sum is used, so that no count of patients has to be told.

Formal guarantee: a patient adds the mean of vectors of length 1, one for each lesion with an image, so that adding or
removing one moves the sum by at most 1 in L2 norm. With N(0, std^2) noise on every entry one release is the Gaussian
mechanism of l2_sensitivity 1 (Dwork and Roth 2014, Appendix A).
"""

import torch
from torch import Tensor

from client.training.dp_sgd import ROUNDING_MARGIN
from client.training.noise import NoiseGenerator
from shared_model.data.lesions import Lesions
from shared_model.network.standardisation import unit_length


def feature_sum(lesions: Lesions) -> Tensor:
    """Return the sum ``(D,)``, float64; of length at most the number of patients.

    A patient without an image adds nothing, and neither does one with a feature that is not finite.

    Args:
        lesions: of the cohort, with frozen features ``(N, D)`` as images.
    """
    features = lesions.images.to(torch.float64)
    is_finite = torch.isfinite(features).all(dim=1)
    _, patient_of = torch.unique(lesions.patients, return_inverse=True)
    num_patients = int(patient_of.max()) + 1 if len(patient_of) else 0
    is_unusable = torch.zeros(num_patients, dtype=torch.bool)
    is_unusable[patient_of[~is_finite]] = True
    counts = lesions.has_image & ~is_unusable[patient_of]
    num_images = torch.zeros(num_patients, dtype=torch.float64).index_add_(0, patient_of, counts.to(torch.float64))
    weights = torch.where(counts, 1 / num_images.clamp_min(1)[patient_of], 0.0)
    vectors = torch.where(counts.unsqueeze(1), unit_length(torch.where(counts.unsqueeze(1), features, 0.0)), 0.0)
    total: Tensor = (vectors * weights.unsqueeze(1)).sum(dim=0)
    return total


def noised_feature_sum(lesions: Lesions, noise_multiplier: float, noise: NoiseGenerator) -> Tensor:
    """Return ``feature_sum`` plus noise of standard deviation ``noise_multiplier``, ``(D,)``, float32.

    Sum and noise are added in float64 and rounded once: rounding the noise first would leave traces of the sum in the
    low bits (Mironov 2012).
    """
    total = feature_sum(lesions)
    std = noise_multiplier * (1 + ROUNDING_MARGIN)
    return (total + noise.normal(total.shape, std=std, dtype=torch.float64)).to(torch.float32)
