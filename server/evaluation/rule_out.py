"""Rule-out: what would happen if lesions that score low were not looked at any further.

The thresholds are frozen on the training patients, from the same noisy histogram as the operating threshold, for higher
sensitivities. Whoever rules out misses the cancers that are among the lesions ruled out.
"""

from dataclasses import dataclass

import numpy as np

from server.evaluation.histogram_calibration import calibrate
from server.evaluation.patient_shares import Ratio, Share, patient_shares
from server.evaluation.predictions import Predictions
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.system.seeding import numpy_generator

TARGETS = (0.95, 0.98, 0.99)
"""Sensitivities that thresholds are frozen for."""


@dataclass(frozen=True, kw_only=True)
class RuleOut:
    """What one threshold rules out of the test lesions."""

    target_sensitivity: float
    threshold: float
    """In [0, 1]; lesions that score lower are ruled out."""
    ruled_out: Share
    """Of all test lesions."""
    benign_ruled_out: Share
    """Of the benign ones."""
    sensitivity: Share
    """Malignant lesions that are not ruled out, of all malignant ones."""
    missed: int
    """Malignant lesions that are ruled out."""


def rule_out(
    predictions: Predictions, histogram: PatientHistogram, *, num_resamples: int, seed: int
) -> tuple[RuleOut, ...]:
    """Return what each of ``TARGETS`` rules out; none where noise hides the patients, or lesions are of one class.

    Args:
        predictions: of the test lesions.
        histogram: of the training patients' scores.
        num_resamples: of the bootstrap over patients, >= 1.
        seed: of the bootstrap.
    """
    labels = predictions.labels == 1
    if labels.all() or not labels.any():
        return ()
    found = []
    for target in TARGETS:
        threshold = calibrate(histogram, target).threshold
        if threshold is None:
            continue
        is_out = predictions.scores < threshold
        ratios = {
            "ruled_out": Ratio(above=is_out.astype(float), below=np.ones(len(labels))),
            "benign_ruled_out": Ratio(above=(is_out & ~labels).astype(float), below=(~labels).astype(float)),
            "sensitivity": Ratio(above=(~is_out & labels).astype(float), below=labels.astype(float)),
        }
        generator = numpy_generator(seed, "bootstrap", "rule-out")
        shares = patient_shares(ratios, predictions.patients, num_resamples, generator)
        missed = int((is_out & labels).sum())
        found.append(RuleOut(target_sensitivity=target, threshold=threshold, **shares, missed=missed))
    return tuple(found)
