"""Threshold and Platt scaling from the histogram of the training patients' scores, with or without privacy noise.

Nobody is kept from training for it, and the noise of a few per cent of the budget suffices: both use all counts at
once. A private network hardly fits its own training patients better than others, so that their scores stand for those
of new patients; without privacy it does, and the threshold is too high.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from server.evaluation.noisy_histograms import MIN_TOTAL_TO_NOISE
from server.evaluation.platt_scaling import PlattScaling
from shared_model.metrics.counts import FloatArray
from shared_model.privacy.patient_histogram import PatientHistogram

_SLOPES = np.geomspace(0.2, 1.5, 61)
_OFFSETS = np.linspace(-2.5, 2.5, 201)
"""The scaling is searched for among these: with strong noise the likelihood alone would run to a slope of 10."""
_USUAL_SLOPE, _SLOPE_SPREAD = 0.6, 0.6
"""Prior of the slope, log-normal: what private training on CBIS-DDSM masses needs (cross-validation)."""
_SLOPE_WEIGHT, _OFFSET_WEIGHT = 2.0, 0.5
_MAX_THRESHOLD_BINS = 10
"""Bins of the threshold's own histogram: few, so that the noise of each counts for little."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What makes a network's scores probabilities, and from which of them a lesion is called malignant."""

    scaling: PlattScaling
    threshold: float | None
    """Of the scaled scores, in [0, 1]; None where noise hides the malignant patients."""


def calibrate(histogram: PatientHistogram, target_sensitivity: float) -> Calibration:
    """Return scaling and threshold from the histogram of the unscaled scores.

    Args:
        histogram: of the training patients.
        target_sensitivity: in (0, 1]; a point estimate of the sensitivity reaches it.
    """
    scaling = fit_scaling(histogram)
    threshold = estimated_threshold(histogram, target_sensitivity)
    if threshold is not None and 0 < threshold < 1:
        threshold = float(expit(scaling.scale * logit(threshold) + scaling.offset))
    return Calibration(scaling=scaling, threshold=threshold)


def fit_scaling(histogram: PatientHistogram) -> PlattScaling:
    """Return the slope and offset of greatest penalised likelihood.

    The likelihood is linear in the counts, so that noise does not move it on average; for this, counts below 0 stay as
    they are. A bin's scores stand at its middle.
    """
    logits = logit((np.arange(histogram.num_bins) + 0.5) / histogram.num_bins)
    slopes, offsets = _SLOPES[:, None, None], _OFFSETS[None, :, None]
    scaled = slopes * logits + offsets
    loss = np.logaddexp(0, -scaled) @ histogram.positives + np.logaddexp(0, scaled) @ histogram.negatives
    loss += _SLOPE_WEIGHT * (np.log(_SLOPES / _USUAL_SLOPE)[:, None] / _SLOPE_SPREAD) ** 2
    loss += _OFFSET_WEIGHT * _OFFSETS[None, :] ** 2
    row, column = np.unravel_index(int(loss.argmin()), loss.shape)
    return PlattScaling(scale=float(_SLOPES[row]), offset=float(_OFFSETS[column]))


def estimated_threshold(histogram: PatientHistogram, target_sensitivity: float) -> float | None:
    """Return the highest threshold in [0, 1] whose estimated sensitivity is ``target_sensitivity``.

    The sensitivity at every bin edge is estimated from the counts above it, made to fall with the edge (isotonic
    regression), and followed along a line inside a bin. None where the malignant patients do not exceed
    ``MIN_TOTAL_TO_NOISE`` deviations of their total's noise.

    Raises:
        ValueError: the target is not in (0, 1].
    """
    if not 0 < target_sensitivity <= 1:
        raise ValueError(f"Expected target_sensitivity={target_sensitivity} in (0, 1].")
    positives = histogram.positives
    if not positives.sum() > MIN_TOTAL_TO_NOISE * histogram.noise_std * math.sqrt(histogram.num_bins):
        return None
    if histogram.noise_std:
        positives = _merged(positives, _MAX_THRESHOLD_BINS)
    num_bins = len(positives)
    above = np.append(np.cumsum(positives[::-1])[::-1] / positives.sum(), 0.0)
    edges = np.arange(num_bins + 1) / num_bins
    sensitivities = IsotonicRegression(increasing=False).fit_transform(edges, above)
    last = int(np.flatnonzero(sensitivities >= target_sensitivity).max(initial=0))
    if last == num_bins:
        return 1.0
    step = sensitivities[last] - sensitivities[last + 1]
    inside = (sensitivities[last] - target_sensitivity) / step if step > 0 else 0.0
    return float((last + min(max(inside, 0.0), 1.0)) / num_bins)


def _merged(counts: FloatArray, most: int) -> FloatArray:
    """Return the counts of equal groups of neighbouring bins, of as many groups as divide them and are at most."""
    num_groups = max(number for number in range(1, most + 1) if len(counts) % number == 0)
    merged: FloatArray = counts.reshape(num_groups, -1).sum(axis=1)
    return merged
