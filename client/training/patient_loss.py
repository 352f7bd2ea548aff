"""The loss whose gradient is clipped: the mean over each patient's lesions, added up over patients."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from client.training.patients import PatientBatch
from shared_model.config.choices import Loss
from shared_model.config.site_sections import TrainingConfig


def record_loss(logits: Tensor, labels: Tensor, config: TrainingConfig) -> Tensor:
    """Return each lesion's loss; no lesion's loss depends on another lesion.

    Cross-entropy, or focal loss (Lin et al. 2017, Eq. 4), of the logit; a malignant lesion's loss is multiplied by
    the public constant ``positive_weight``.

    Args:
        logits: ``(N,)``, any real value.
        labels: ``(N,)``, float, 1 malignant and 0 benign.
        config: loss, focal_gamma and positive_weight are read.

    Returns:
        ``(N,)``, non-negative.
    """
    signed = (2 * labels - 1) * logits
    loss = (1 + (config.positive_weight - 1) * labels) * functional.softplus(-signed)
    if config.loss is Loss.FOCAL:
        # (1 - p_t)^gamma; through the logarithm, its gradient stays finite for every gamma and logit.
        loss = loss * torch.exp(config.focal_gamma * functional.logsigmoid(-signed))
    return loss


def summed_loss(model: nn.Module, batch: PatientBatch, config: TrainingConfig) -> Tensor:
    """Return the sum over patients of the mean loss over the patient's lesions, a scalar."""
    return (batch.weights * record_loss(model(*batch.inputs), batch.labels, config)).sum()
