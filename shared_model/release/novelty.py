"""How far a lesion's features lie from those of public lesions: Mahalanobis distance with a shrunken covariance."""

from dataclasses import dataclass

import numpy as np

from shared_model.metrics.counts import FloatArray
from shared_model.network.named_arrays import Float32Array


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureReference:
    """Mean and whitening of public features; nothing of a site is in it."""

    mean: Float32Array
    """``(D,)``."""
    whitening: Float32Array
    """``(D, D)``: after it, public features have unit covariance."""

    def __post_init__(self) -> None:
        width = len(self.mean)
        if self.mean.shape != (width,) or self.whitening.shape != (width, width):
            raise ValueError(f"Expected (D,) and (D, D), got {self.mean.shape} and {self.whitening.shape}.")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.whitening).all()):
            raise ValueError("Expected a finite mean and whitening.")

    def distances(self, features: Float32Array) -> FloatArray:
        """Return the distance of each row of ``features`` ``(N, D)``, in standard deviations: ``(N,)``."""
        whitened = (features.astype(np.float64) - self.mean) @ self.whitening.astype(np.float64)
        lengths: FloatArray = np.linalg.norm(whitened, axis=1) / np.sqrt(len(self.mean))
        return lengths
