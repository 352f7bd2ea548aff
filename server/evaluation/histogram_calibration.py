"""Threshold and Platt scaling from the histogram of the training patients' scores, with or without privacy noise.

Nobody is kept from training for it, and the noise of a few per cent of the budget suffices, since all counts are used
at once: a line through the logits makes scores probabilities, and these say how many malignant patients to expect in
each bin, whatever noise stands on the malignant ones counted there. A private network hardly fits its own training
patients better than others. What little it does, ``_MARGIN`` makes up for.

The constants were chosen by five-fold cross-validation on training patients of CBIS-DDSM masses (docs/results.md).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import logit

from server.evaluation.noisy_histograms import MIN_TOTAL_TO_NOISE
from shared_model.metrics.counts import FloatArray
from shared_model.metrics.platt_scaling import PlattScaling
from shared_model.privacy.patient_histogram import PatientHistogram

USUAL_SCALING = PlattScaling(scale=0.4, offset=0.0)
"""What private training needs about: its logits are too sure. Sites count scores after it, so that bins are filled
evenly, and strong noise draws what ``fit_scaling`` finds towards no further change."""
SLOPES, OFFSETS = np.geomspace(0.3, 2.5, 86), np.linspace(-2.5, 2.5, 201)
"""The scaling is searched for among these: with strong noise the likelihood alone would run to any slope."""
_SLOPE_SPREAD = 0.5
"""Of the logarithm of the slope, by the prior."""
_SLOPE_WEIGHT, _OFFSET_WEIGHT = 2.0, 0.5
"""Of the prior, in units of log-likelihood, without noise."""
_SLOPE_WEIGHT_OF_NOISE, _OFFSET_WEIGHT_OF_NOISE = 8.0, 4.0
"""The same for each patient of noise in a count: the likelihood's own noise grows as much."""
_MARGIN = 0.1
"""Of the cancers that the target lets go by, so many are to be found too."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What makes a network's scores probabilities, and from which of them a lesion is called malignant."""

    scaling: PlattScaling
    threshold: float | None
    """Of the scaled scores, in [0, 1]; None where noise hides the patients."""


def calibrate(histogram: PatientHistogram, target_sensitivity: float) -> Calibration:
    """Return scaling and threshold from the histogram of the scores of a network after ``USUAL_SCALING``.

    The threshold is a point estimate and no bound: with noise it misses the target as often as it exceeds it.

    Args:
        histogram: of the training patients.
        target_sensitivity: in (0, 1].

    Raises:
        ValueError: the target is out of bounds.
    """
    if not 0 < target_sensitivity <= 1:
        raise ValueError(f"Expected target_sensitivity={target_sensitivity} in (0, 1].")
    scaling = fit_scaling(histogram)
    total_std = histogram.noise_std * math.sqrt(2 * histogram.num_bins)
    # Of both classes together, where metrics ask it of each.
    if not (histogram.negatives + histogram.positives).sum() > MIN_TOTAL_TO_NOISE * total_std:
        return Calibration(scaling=scaling, threshold=None)
    edge = threshold_edge(histogram, scaling, aimed_share(target_sensitivity))
    threshold = None if edge is None else float(scaling.probabilities(logit(edge)))
    return Calibration(scaling=scaling, threshold=threshold)


def fit_scaling(histogram: PatientHistogram) -> PlattScaling:
    """Return the slope and offset of greatest likelihood times prior; a bin's scores stand at its middle.

    The likelihood is linear in the counts, so that noise does not move it on average; for this, counts below 0 stay as
    they are. The prior is log-normal for the slope and normal for the offset, the sharper the more noise there is.
    """
    scaled = SLOPES[:, None, None] * middle_logits(histogram) + OFFSETS[None, :, None]
    loss = np.logaddexp(0, -scaled) @ histogram.positives + np.logaddexp(0, scaled) @ histogram.negatives
    slope_weight = _SLOPE_WEIGHT + _SLOPE_WEIGHT_OF_NOISE * histogram.noise_std
    offset_weight = _OFFSET_WEIGHT + _OFFSET_WEIGHT_OF_NOISE * histogram.noise_std
    loss += slope_weight * (np.log(SLOPES)[:, None] / _SLOPE_SPREAD) ** 2 + offset_weight * OFFSETS[None, :] ** 2
    row, column = np.unravel_index(int(loss.argmin()), loss.shape)
    return PlattScaling(scale=float(SLOPES[row]), offset=float(OFFSETS[column]))


def threshold_edge(histogram: PatientHistogram, scaling: PlattScaling, aim: float) -> float | None:
    """Return the highest score in [0, 1], not scaled, from which on a share ``aim`` of the malignant is expected.

    None where noise leaves none of them to be expected. The share above every bin edge is made to fall with the edge
    (isotonic regression) and followed along a line inside a bin.
    """
    num_bins = histogram.num_bins
    probabilities = scaling.probabilities(middle_logits(histogram))
    expected = probabilities * (histogram.negatives + histogram.positives)
    if not expected.sum() > 0:
        return None
    above = np.append(np.cumsum(expected[::-1])[::-1] / expected.sum(), 0.0)
    shares = isotonic_regression(above, increasing=False).x
    last = int(np.flatnonzero(shares >= aim).max(initial=0))
    step = shares[last] - shares[min(last + 1, num_bins)]
    inside = (shares[last] - aim) / step if step > 0 else 0.0
    return float((last + min(max(inside, 0.0), 1.0)) / num_bins)


def aimed_share(target_sensitivity: float) -> float:
    """Return the share of the malignant patients that the threshold aims at: the target, and a margin."""
    return 1 - (1 - target_sensitivity) * (1 - _MARGIN)


def middle_logits(histogram: PatientHistogram) -> FloatArray:
    """Return the logits ``(B,)`` of the middles of the bins."""
    logits: FloatArray = logit((np.arange(histogram.num_bins) + 0.5) / histogram.num_bins)
    return logits
