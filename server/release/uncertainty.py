"""How sure threshold and scaling are: from the noisy histogram of training patients, or from public patients.

All of it is computed from what is released with noise already, or from public lesions, and costs no further privacy.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from server.evaluation.histogram_calibration import (
    OFFSETS,
    SLOPES,
    aimed_share,
    fit_scaling,
    middle_logits,
    threshold_edge,
)
from server.evaluation.threshold import threshold_for_sensitivity
from shared_model.errors import ConfigError
from shared_model.metrics.counts import FloatArray
from shared_model.metrics.intervals import CONFIDENCE_LEVEL, ConfidenceInterval
from shared_model.metrics.platt_scaling import PlattScaling, fit_platt_scaling
from shared_model.privacy.patient_histogram import PatientHistogram

NUM_DRAWS = 400
"""Beyond it the ends of the intervals move by less than a hundredth."""
_SLOPE_SPREAD, _OFFSET_SPREAD = 0.25, 1.0
"""Of the logarithm of the slope and of the offset, before anything is counted: what ``fit_scaling`` assumes without
noise. With noise it assumes more, for a steady estimate; taken for a belief, that gives intervals that hold the truth
half the time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Uncertainty:
    """Draws of the scaling, relative to the one that the network has, and of the threshold."""

    slopes: FloatArray
    offsets: FloatArray
    threshold: ConfidenceInterval


def from_histogram(
    histogram: PatientHistogram, *, target_sensitivity: float, threshold: float, generator: np.random.Generator
) -> Uncertainty:
    """Return what a histogram of training patients leaves open.

    Args:
        histogram: from which ``calibrate`` made scaling and threshold.
        target_sensitivity: as it was told.
        threshold: what it gave.
        generator: of the draws.
    """
    chosen = fit_scaling(histogram)
    weights = np.exp(_log_posterior(histogram)).ravel()
    drawn = generator.choice(len(weights), NUM_DRAWS, p=weights / weights.sum())
    rows, columns = np.unravel_index(drawn, (len(SLOPES), len(OFFSETS)))
    slopes, offsets = SLOPES[rows], OFFSETS[columns]
    aim, thresholds = aimed_share(target_sensitivity), [threshold]
    for slope, offset in zip(slopes, offsets, strict=True):
        scaling = PlattScaling(scale=float(slope), offset=float(offset))
        edge = threshold_edge(_drawn_again(histogram, generator), scaling, aim)
        if edge is not None:
            thresholds.append(float(chosen.probabilities(logit(edge))))
    return Uncertainty(
        slopes=slopes / chosen.scale,
        offsets=offsets - slopes / chosen.scale * chosen.offset,
        threshold=_interval(thresholds, threshold),
    )


def from_public_patients(
    labels: FloatArray,
    scores: FloatArray,
    patients: FloatArray,
    *,
    target_sensitivity: float,
    threshold: float,
    generator: np.random.Generator,
) -> Uncertainty:
    """Return what public patients leave open: they are drawn again, and scaling and threshold chosen anew.

    Args:
        labels: ``(N,)``.
        scores: ``(N,)``, by the final network.
        patients: ``(N,)``; equal entries are the same patient, whose lesions are drawn together.
        target_sensitivity: as the run was told.
        threshold: what the run chose.
        generator: of the draws.

    Raises:
        ConfigError: there are too few patients of a class to draw from.
    """
    rows_of = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    slopes, offsets, thresholds = list[float](), list[float](), [threshold]
    for _ in range(4 * NUM_DRAWS):
        rows = np.concatenate([rows_of[number] for number in generator.integers(len(rows_of), size=len(rows_of))])
        scaling = fit_platt_scaling(labels[rows], scores[rows])
        if scaling is not None:
            slopes.append(scaling.scale)
            offsets.append(scaling.offset)
            thresholds.append(threshold_for_sensitivity(labels[rows], scores[rows], target_sensitivity))
        if len(slopes) == NUM_DRAWS:
            interval = _interval(thresholds, threshold)
            return Uncertainty(slopes=np.array(slopes), offsets=np.array(offsets), threshold=interval)
    raise ConfigError(
        "Expected public patients of both classes that the network ranks; they are too few for a release."
    )


def _log_posterior(histogram: PatientHistogram) -> FloatArray:
    """Return the logarithm, up to a constant, of the posterior of slope and offset on their grid.

    The residuals of a logistic regression, summed up with and without the logits, have mean zero at the true line, and
    a variance of two known parts: that of the labels, and that of the noise in the counts. They are taken for normal.
    """
    logits, counts = middle_logits(histogram), histogram.positives + histogram.negatives
    expected = 1 / (1 + np.exp(-(SLOPES[:, None, None] * logits + OFFSETS[None, :, None])))
    residuals = histogram.positives - counts * expected
    noise = histogram.noise_std**2 * (expected**2 + (1 - expected) ** 2)
    variances = np.maximum(counts, 0) * expected * (1 - expected) + noise
    first, second = (residuals * logits).sum(axis=-1), residuals.sum(axis=-1)
    a, b, c = ((variances * power).sum(axis=-1) for power in (logits**2, logits, np.ones_like(logits)))
    squared = (c * first**2 - 2 * b * first * second + a * second**2) / (a * c - b**2)
    prior = (np.log(SLOPES)[:, None] / _SLOPE_SPREAD) ** 2 + (OFFSETS[None, :] / _OFFSET_SPREAD) ** 2
    log_posterior: FloatArray = -0.5 * (squared + prior)
    log_posterior -= log_posterior.max()
    return log_posterior


def _drawn_again(histogram: PatientHistogram, generator: np.random.Generator) -> PatientHistogram:
    """Return counts as other patients and other noise might have given them."""

    def again(counts: FloatArray) -> FloatArray:
        spread = np.sqrt(np.maximum(counts, 0) + histogram.noise_std**2)
        drawn: FloatArray = counts + spread * generator.standard_normal(len(counts))
        return drawn if histogram.noise_std else np.maximum(drawn, 0)

    return PatientHistogram(
        negatives=again(histogram.negatives), positives=again(histogram.positives), noise_std=histogram.noise_std
    )


def _interval(values: list[float], chosen: float) -> ConfidenceInterval:
    rest = (1 - CONFIDENCE_LEVEL) / 2
    low, high = (float(bound) for bound in np.quantile(values, (rest, 1 - rest)))
    return ConfidenceInterval(low=min(low, chosen), high=max(high, chosen))
