"""Shares of test lesions, such as those called malignant, with intervals over patients."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_model.metrics.bootstrap import MIN_DEFINED, percentile_interval
from shared_model.metrics.counts import FloatArray
from shared_model.metrics.exact_interval import exact_interval
from shared_model.metrics.intervals import ConfidenceInterval


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of lesions, or a difference of two, and how far other patients would move it."""

    value: float
    """In [0, 1], of a difference in [-1, 1]."""
    interval: ConfidenceInterval | None
    """95 % over patients; None where too many resamples have no such lesion."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ratio:
    """What each of ``N`` lesions adds above and below the line of a share."""

    above: FloatArray
    """``(N,)``."""
    below: FloatArray
    """``(N,)``, 0 or 1, not all 0."""
    is_difference: bool = False
    """Of two shares: then the value may be negative."""


def patient_shares(
    ratios: Mapping[str, Ratio], patients: NDArray[np.int64], num_resamples: int, generator: np.random.Generator
) -> dict[str, Share]:
    """Return the shares with percentile intervals when patients are drawn again, all lesions of a patient together.

    A share of none or of all is the same in every resample: its interval is the exact one, each patient counted once.

    Args:
        ratios: at least one.
        patients: ``(N,)``; equal numbers are the same patient.
        num_resamples: >= 1.
        generator: source of the draws.
    """
    above = np.stack([ratio.above for ratio in ratios.values()])
    below = np.stack([ratio.below for ratio in ratios.values()])
    number_of_patient = np.unique(patients, return_inverse=True)[1]
    num_patients = int(number_of_patient.max()) + 1
    drawn = np.full((num_resamples, len(ratios)), np.nan)
    for row in drawn:
        weights = np.bincount(generator.integers(num_patients, size=num_patients), minlength=num_patients)
        sums = below @ weights[number_of_patient]
        np.divide(above @ weights[number_of_patient], sums, out=row, where=sums > 0)
    shares = {}
    for (name, ratio), column in zip(ratios.items(), drawn.T, strict=True):
        value = float(ratio.above.sum() / ratio.below.sum())
        interval = _percentiles(column)
        if value in (0, 1) and not ratio.is_difference:
            num_concerned = len(np.unique(number_of_patient[ratio.below > 0]))
            interval = exact_interval(int(value) * num_concerned, num_concerned)
        shares[name] = Share(value=value, interval=interval)
    return shares


def _percentiles(values: FloatArray) -> ConfidenceInterval | None:
    defined = values[~np.isnan(values)]
    return percentile_interval(defined) if len(defined) >= MIN_DEFINED * len(values) else None
