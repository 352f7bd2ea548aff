"""Heads: the trained layers that turn image and clinical vectors into one logit, joined early, midway or late.

A missing modality is normal and contributes exactly zero. Nothing depends on other rows of the batch, and no control
flow depends on data, so that ``torch.func.vmap`` may map over patients.
"""

import torch
from torch import Tensor, nn

from shared_model.network.standardisation import rowwise_product

BIAS_INPUT = 0.1
"""The constant that the bias is multiplied by.

With the usual 1 the bias would be the largest entry of most gradients, so that clipping would shrink the entries that
rank lesions. A small bias does no harm, because the threshold is chosen after training.
"""


def _keep(vectors: Tensor, is_present: Tensor) -> Tensor:
    return torch.where(is_present.unsqueeze(-1), vectors, torch.zeros_like(vectors))


def _embedding(width: int, hidden_width: int) -> tuple[nn.Module, int]:
    """Return one hidden layer, or the identity for ``hidden_width == 0``, and the width of its output.

    The activation is tanh. Its values are bounded, and with them the gradient of the next layer; under DP-SGD it does
    better than ReLU (Papernot et al. 2021, Tempered Sigmoid Activations for Deep Learning with Differential Privacy).
    """
    if hidden_width == 0:
        return nn.Identity(), width
    return nn.Sequential(RowwiseLinear(width, hidden_width), nn.Tanh()), hidden_width


class RowwiseLinear(nn.Linear):
    """A linear layer in whose output a row does not depend on its position in the batch; see ``rowwise_product``."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Map ``(N, in_features)`` to ``(N, out_features)``."""
        products = rowwise_product(vectors, self.weight)
        return products if self.bias is None else products + self.bias


class LogitLayer(nn.Module):
    """A linear layer to one logit that starts at zero: every record begins with probability one half."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = RowwiseLinear(width + 1, 1, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map ``(N, width)`` to logits ``(N,)``; the last weight, times ``BIAS_INPUT``, is the bias."""
        constant = torch.full_like(vectors[..., :1], BIAS_INPUT)
        logits: Tensor = self.linear(torch.cat((vectors, constant), dim=-1))
        return logits.squeeze(-1)

    def rescale(self, *, scale: float, offset: float) -> None:
        """Turn every logit ``l`` of this layer into ``scale * l + offset``."""
        with torch.no_grad():
            self.linear.weight *= scale
            self.linear.weight[:, -1] += offset / BIAS_INPUT


class SingleHead(nn.Module):
    """The head of a network that reads one modality only."""

    def __init__(self, width: int, *, hidden_width: int) -> None:
        super().__init__()
        self.embedding, embedding_width = _embedding(width, hidden_width)
        self.output = LogitLayer(embedding_width)

    def forward(self, vectors: Tensor, is_present: Tensor) -> Tensor:
        """Map ``(N, width)`` and ``(N,)`` bool to logits ``(N,)``; without the modality the logit is the bias."""
        logits: Tensor = self.output(_keep(self.embedding(vectors), is_present))
        return logits


class EarlyHead(nn.Module):
    """Early fusion: both vectors are joined into one before the first layer."""

    def __init__(self, image_width: int, clinical_width: int, *, hidden_width: int) -> None:
        super().__init__()
        self.embedding, embedding_width = _embedding(image_width + clinical_width, hidden_width)
        self.output = LogitLayer(embedding_width)

    def forward(self, image: Tensor, has_image: Tensor, clinical: Tensor, has_clinical: Tensor) -> Tensor:
        """Map ``(N, D)`` and ``(N, C)``, with their ``(N,)`` presence, to logits ``(N,)``."""
        joint = torch.cat((_keep(image, has_image), _keep(clinical, has_clinical)), dim=-1)
        logits: Tensor = self.output(self.embedding(joint))
        return logits


class MidHead(nn.Module):
    """Mid fusion: the clinical vector scales and shifts the image vector (FiLM, Perez et al. 2018, arXiv 1709.07871).

    At the start the image vector passes unchanged. The clinical vector also enters the logit directly, so that it
    counts for a record without an image too.
    """

    def __init__(self, image_width: int, clinical_width: int, *, hidden_width: int) -> None:
        super().__init__()
        self.image_embedding, image_width = _embedding(image_width, hidden_width)
        self.clinical_embedding, clinical_width = _embedding(clinical_width, hidden_width)
        self.modulation = RowwiseLinear(clinical_width, 2 * image_width, bias=False)
        nn.init.zeros_(self.modulation.weight)
        self.output = LogitLayer(image_width + clinical_width)

    def forward(self, image: Tensor, has_image: Tensor, clinical: Tensor, has_clinical: Tensor) -> Tensor:
        """Map ``(N, D)`` and ``(N, C)``, with their ``(N,)`` presence, to logits ``(N,)``."""
        clinical = _keep(self.clinical_embedding(clinical), has_clinical)
        scale, shift = self.modulation(clinical).chunk(2, dim=-1)
        modulated = _keep(self.image_embedding(image) * (1 + scale) + shift, has_image)
        logits: Tensor = self.output(torch.cat((modulated, clinical), dim=-1))
        return logits


class LateHead(nn.Module):
    """Late fusion: one logit for each modality, averaged with learned weights that start equal."""

    def __init__(self, image_width: int, clinical_width: int, *, hidden_width: int) -> None:
        super().__init__()
        # A layer that reads the constant 1, for gradients by ghost norms, which take linear layers only.
        self.decision = RowwiseLinear(1, 2, bias=False)
        nn.init.zeros_(self.decision.weight)
        self.image = SingleHead(image_width, hidden_width=hidden_width)
        self.clinical = SingleHead(clinical_width, hidden_width=hidden_width)

    def forward(self, image: Tensor, has_image: Tensor, clinical: Tensor, has_clinical: Tensor) -> Tensor:
        """Map ``(N, D)`` and ``(N, C)``, with their ``(N,)`` presence, to logits ``(N,)``.

        If one modality is missing, the logit is that of the other; if both are missing, it is 0.
        """
        logits = torch.stack((self.image(image, has_image), self.clinical(clinical, has_clinical)), dim=-1)
        shares = torch.softmax(self.decision(torch.ones_like(logits[..., :1])), dim=-1)
        weights = shares * torch.stack((has_image, has_clinical), dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        return (weights * logits).sum(dim=-1)
