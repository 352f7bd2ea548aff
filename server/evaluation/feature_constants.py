"""Feature constants: mean and projection of the image features, computed from the public lesions alone."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shared_model.errors import ConfigError
from shared_model.network.standardisation import FeatureConstants

RIDGE = 1.0
"""Added to every variance before dividing by its root, in units of the mean variance over the features."""


def fit_feature_constants(features: Tensor, *, num_components: int) -> FeatureConstants:
    """Return the constants that standardise features like those of the public ``features``.

    Every feature is divided by its standard deviation. First the mean variance over the features is added to every
    variance (a ridge), so that a feature that hardly varies among a few hundred lesions is not scaled up to noise.

    With ``num_components`` the result is then projected onto its leading principal components. They keep their
    variances: if all were scaled to variance 1, the weakest component would get as large a share of the clipped
    gradient as the strongest. The sign of a component is fixed by making its largest loading positive.

    Args:
        features: ``(M, D)``, the frozen features of lesions that have an image.
        num_components: ``K``; 0 keeps all ``D`` features.

    Raises:
        ConfigError: fewer than two lesions, or too few for ``num_components`` components.
        ValueError: a feature is not finite, or all lesions are alike.
    """
    values = features.detach().cpu().numpy().astype(np.float64)
    _check_features(values, num_components)
    mean = values.mean(axis=0)
    centred = values - mean
    projection = np.diag(feature_scale(values))
    if num_components > 0:
        _, _, directions = np.linalg.svd(centred @ projection, full_matrices=False)
        projection = projection @ _with_fixed_signs(directions[:num_components].T)
    return FeatureConstants(mean=mean.astype(np.float32), projection=projection.astype(np.float32))


def feature_scale(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the factor ``(D,)`` of each of the ``features`` ``(M, D)``; see ``fit_feature_constants``."""
    variances = features.var(axis=0, ddof=1)
    scale: NDArray[np.float64] = 1 / np.sqrt(variances + RIDGE * variances.mean())
    return scale


def _check_features(values: NDArray[np.float64], num_components: int) -> None:
    num_lesions, width = values.shape
    needed = max(2, num_components + 1)
    if num_lesions < needed:
        raise ConfigError(
            f"Expected public lesions with an image={num_lesions} >= {needed} for model.image_components="
            f"{num_components}: raise data.public_fraction or lower model.image_components."
        )
    if num_components > width:
        raise ConfigError(f"Expected model.image_components={num_components} <= {width} features.")
    if not np.isfinite(values).all():
        raise ValueError("Expected finite features.")
    if not np.ptp(values, axis=0).any():
        raise ValueError("Expected features that differ between lesions.")


def _with_fixed_signs(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])]
    return directions * np.where(largest < 0, -1.0, 1.0)
