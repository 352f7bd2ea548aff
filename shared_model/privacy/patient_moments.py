"""Moments of patients, one bounded vector each: all that a linear head has to know of them to be fitted.

A lesion with inputs ``x`` of the head and label ``y``, 1 for malignant and -1 for benign, has the moments ``x x^T`` and
``y x``; a patient has the mean over the lesions, as one vector: the upper triangle of the first, weighted, then the
second. Entries off the diagonal count sqrt(2) times, so that the vector is as long as the whole matrix, and equal noise
in every entry is that of a Gaussian orthogonal ensemble.

A vector that is longer than 1 is scaled down to 1. That weighs the patient less, in both moments alike: the fit is then
one of weighted least squares.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from shared_model.metrics.counts import FloatArray

SECOND_WEIGHT = 0.7
"""Of ``x x^T`` beside ``y x``: more of it leaves less noise in the one and more in the other."""


def num_moments(width: int) -> int:
    """Return the length of the vector for a head of ``width`` inputs."""
    return width * (width + 1) // 2 + width


def patient_moments(inputs: FloatArray, labels: FloatArray) -> FloatArray:
    """Return the moments ``(M,)`` of one patient, of length 1 at most; zeros where an input is not finite.

    Args:
        inputs: ``(N, W)``, float64, of ``N`` >= 1 lesions.
        labels: ``(N,)``, 1 malignant, 0 benign.
    """
    signs = 2.0 * labels - 1.0
    # Overflow ends in a length that is not finite.
    with np.errstate(all="ignore"):
        second, cross = inputs.T @ inputs / len(inputs), signs @ inputs / len(inputs)
        upper = np.triu_indices(len(second))
        vector = np.concatenate([_weights(len(second)) * second[upper], cross])
        length = float(np.linalg.norm(vector))
    if not np.isfinite(length):
        return np.zeros_like(vector)
    bounded: FloatArray = vector / max(1.0, length)
    return bounded


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Moments added up over patients."""

    second: FloatArray
    """``(W, W)``, symmetric; with noise it may have negative eigenvalues."""
    cross: FloatArray
    """``(W,)``."""

    @classmethod
    def from_vector(cls, vector: FloatArray, *, width: int) -> Self:
        """Return what sums of ``patient_moments`` hold.

        Raises:
            ValueError: ``vector`` is not as long as ``num_moments(width)``.
        """
        if vector.shape != (num_moments(width),):
            raise ValueError(f"Expected {num_moments(width)} moments of {width} inputs, got shape {vector.shape}.")
        second = np.zeros((width, width))
        upper = np.triu_indices(width)
        second[upper] = vector[: len(upper[0])] / _weights(width)
        second.T[upper] = second[upper]
        return cls(second=second, cross=np.array(vector[len(upper[0]) :], dtype=np.float64))


def noise_edge(noise_std: float, width: int) -> float:
    """Return about the largest eigenvalue of the noise in ``Moments.second``, for noise of ``noise_std`` in each entry.

    The noise is a Gaussian orthogonal ensemble with deviation s = ``noise_std`` / (sqrt(2) ``SECOND_WEIGHT``) off the
    diagonal, whose eigenvalues fill [-2 s sqrt(W), 2 s sqrt(W)] (Wigner's semicircle).
    """
    return float(noise_std * np.sqrt(2 * width) / SECOND_WEIGHT)


def _weights(width: int) -> FloatArray:
    """Return the factors of the upper triangle."""
    rows, columns = np.triu_indices(width)
    weights: FloatArray = SECOND_WEIGHT * np.where(rows == columns, 1.0, np.sqrt(2.0))
    return weights
