"""The sum over patients of their moments, from which a server fits a linear head without further rounds.

Formal guarantee: a patient adds a vector of length 1 at most (``shared_model.privacy.patient_moments``), whatever the
lesions, labels and constants are, so that adding or removing one moves the sum by at most 1 in L2 norm. With
N(0, std^2) noise on every entry the release is the Gaussian mechanism of l2_sensitivity 1 (Dwork and Roth 2014,
Appendix A).
"""

import numpy as np
import torch
from torch import Tensor

from client.training.dp_sgd import ROUNDING_MARGIN
from client.training.noise import NoiseGenerator
from shared_model.data.lesions import Lesions
from shared_model.network.fusion import FusionNet
from shared_model.network.scoring import head_inputs
from shared_model.privacy.patient_moments import num_moments, patient_moments


def moment_sum(network: FusionNet, lesions: Lesions) -> Tensor:
    """Return the sum ``(M,)``, float64; of length at most the number of patients.

    A patient with an input of the head that is not finite adds nothing.

    Args:
        network: with a linear head of ``W`` inputs.
        lesions: of the cohort.
    """
    inputs, labels = head_inputs(network, lesions), lesions.labels.numpy().astype(np.float64)
    patients = lesions.patients.numpy()
    total = np.zeros(num_moments(inputs.shape[1]))
    order = np.argsort(patients, kind="stable")
    starts = np.flatnonzero(np.diff(patients[order])) + 1
    for rows in np.split(order, starts) if len(order) else []:
        total += patient_moments(inputs[rows], labels[rows])
    return torch.from_numpy(total)


def noised_moment_sum(network: FusionNet, lesions: Lesions, noise_multiplier: float, noise: NoiseGenerator) -> Tensor:
    """Return ``moment_sum`` plus noise of standard deviation ``noise_multiplier``, ``(M,)``, float32.

    Added in float64 and rounded once, as ``client.training.feature_sum`` does and says why.
    """
    total = moment_sum(network, lesions)
    std = noise_multiplier * (1 + ROUNDING_MARGIN)
    return (total + noise.normal(total.shape, std=std, dtype=torch.float64)).to(torch.float32)
