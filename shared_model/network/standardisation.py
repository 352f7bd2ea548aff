"""Standardisation of frozen image features, with constants that come from public lesions alone.

A feature vector ``x`` becomes ``(x - mean) @ projection``. The constants travel with every request and are not trained.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared_model.errors import ConfigError
from shared_model.network.named_arrays import Float32Array

MIN_LENGTH = 1e-6
"""A shorter vector is not scaled up to unit length, because its direction is mostly rounding error."""


@dataclass(frozen=True, kw_only=True)
class FeatureConstants:
    """Constants of the image branch, from public lesions: features ``x`` become ``(x - mean) @ projection``."""

    mean: Float32Array
    """``(D,)``, float32."""
    projection: Float32Array
    """``(D, K)``, float32."""


def rowwise_product(vectors: Tensor, weight: Tensor) -> Tensor:
    """Return ``vectors @ weight.T``, in which, bit for bit, a row does not depend on its position in the batch.

    Libraries of linear algebra add up the last rows of a batch in another order where ``weight`` has few rows. One
    output is added up row by row here, and several have the rows of the batch as the columns of a product, which their
    kernels treat alike; ``row_independence`` tries that on the machine at hand.

    Args:
        vectors: ``(N, in_features)``.
        weight: ``(out_features, in_features)``.
    """
    if len(weight) == 1:
        return (vectors.unsqueeze(-2) * weight).sum(-1)
    return (weight @ vectors.mT).mT


def unit_length(vectors: Tensor) -> Tensor:
    """Divide ``(N, D)`` by its row lengths; rows shorter than ``MIN_LENGTH`` are divided by ``MIN_LENGTH`` instead."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp_min(MIN_LENGTH)


class Standardisation(nn.Module):
    """Applies ``FeatureConstants``, kept as buffers.

    Without principal components the constants start as the identity; with them there are none until they are set.
    """

    mean: Tensor | None
    projection: Tensor | None

    def __init__(self, width: int, num_components: int) -> None:
        super().__init__()
        self.shapes: dict[str, tuple[int, ...]] = {"mean": (width,), "projection": (width, num_components or width)}
        self.register_buffer("mean", None if num_components else torch.zeros(width))
        self.register_buffer("projection", None if num_components else torch.eye(width))

    def constants(self) -> tuple[Tensor, Tensor]:
        """Return mean and projection.

        Raises:
            ConfigError: components are configured and the constants are not set.
        """
        if self.mean is None or self.projection is None:
            raise ConfigError(
                "Expected image constants with model.image_components > 0: the server computes them from the public "
                "lesions, so set data.public_fraction > 0, or choose model.image_components=0."
            )
        return self.mean, self.projection

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(N, D)`` to ``(N, K)``; errors as ``constants``."""
        mean, projection = self.constants()
        return rowwise_product(features - mean, projection.mT)
