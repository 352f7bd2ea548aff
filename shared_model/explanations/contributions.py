"""What image and columns add to a lesion's logit: Shapley values of the modalities, integrated gradients of columns.

Nothing here needs Captum, whose import takes longer than a reading.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shared_model.network.fusion import FusionNet
from shared_model.vocabulary import ClinicalColumn

_IG_STEPS = 64


@dataclass(frozen=True, kw_only=True)
class ModalityShare:
    """The logit as the sum of a base and what each modality adds (Shapley values of the modalities)."""

    base: float
    """Logit with both missing."""
    image: float
    clinical: float

    @property
    def image_share(self) -> float | None:
        """Share of the image in what both moved, in [0, 1]; None where neither moved anything."""
        total = abs(self.image) + abs(self.clinical)
        return abs(self.image) / total if total else None


def attributions_of_columns(
    network: FusionNet, image: Tensor, clinical: Tensor, columns: tuple[ClinicalColumn, ...]
) -> Mapping[str, float]:
    """Return what each clinical column adds to the logit, against a record without clinical data.

    Integrated gradients (Sundararajan et al. 2017) with the image held fixed, by Gauss-Legendre quadrature; the entries
    of a column are added.

    Args:
        network: the trained network.
        image: what it reads of the image, ``(1, D)`` or ``(1, 1, S, S)``.
        clinical: ``(1, C)``.
        columns: in the order of their entries.

    Returns:
        Column to logits; empty for a network without clinical branch.
    """
    if not network.reads_clinical:
        return {}

    nodes, weights = np.polynomial.legendre.leggauss(_IG_STEPS)
    path = (clinical * torch.from_numpy((nodes + 1) / 2)[:, None].to(clinical.dtype)).requires_grad_()
    logits = network(image.expand(_IG_STEPS, *image.shape[1:]), torch.ones(_IG_STEPS, dtype=torch.bool), path)
    (gradients,) = torch.autograd.grad(logits.sum(), path)
    averaged = torch.from_numpy(weights / 2).to(clinical.dtype) @ gradients
    entries = (clinical[0] * averaged).tolist()
    attributions: dict[str, float] = {}
    for column in columns:
        attributions[column.name], entries = float(sum(entries[: column.width])), entries[column.width :]
    return attributions


def share_of_modalities(network: FusionNet, image: Tensor, clinical: Tensor) -> ModalityShare:
    """Return how the logit splits over the two modalities; the network can be asked with each of them missing.

    Args:
        network: the trained network.
        image: what it reads of the image, ``(1, D)`` or ``(1, 1, S, S)``.
        clinical: ``(1, C)``.
    """
    with torch.no_grad():
        nothing = torch.zeros_like(clinical)
        logits = {
            (has_image, has_clinical): float(
                network(image, torch.tensor([has_image]), clinical if has_clinical else nothing)
            )
            for has_image in (False, True)
            for has_clinical in (False, True)
        }
    base, both = logits[False, False], logits[True, True]
    alone_image, alone_clinical = logits[True, False], logits[False, True]
    return ModalityShare(
        base=base,
        image=((alone_image - base) + (both - alone_clinical)) / 2,
        clinical=((alone_clinical - base) + (both - alone_image)) / 2,
    )
