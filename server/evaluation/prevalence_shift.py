"""Prevalence shift as a what-if: what the measured sensitivity and specificity would mean where cancer is rarer.

Arithmetic by Bayes' rule, and no measurement: it takes for granted that sensitivity and specificity stay what they are
among these lesions, which other patients, films and readers may change (spectrum effect).
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from server.evaluation.patient_shares import Share
from shared_model.metrics.intervals import ConfidenceInterval

PREVALENCES = (0.05, 0.25)
"""Shares of malignant cases that are asked about beside the stated one; chosen, and measured nowhere."""


@dataclass(frozen=True, kw_only=True)
class AtPrevalence:
    """What follows at one prevalence; shares of all cases, but for the predictive values."""

    prevalence: float
    """In (0, 1)."""
    ppv: Share | None
    """Malignant cases of those called malignant; None where none is called."""
    npv: Share | None
    """Benign cases of those called benign; None where none is called."""
    called_benign: Share
    missed: Share
    """Malignant cases called benign."""


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """One threshold at several prevalences."""

    name: str
    """``operating threshold``, or which rule-out."""
    threshold: float
    """In [0, 1]."""
    sensitivity: Share
    specificity: Share
    rows: tuple[AtPrevalence, ...]


def what_if(
    name: str, threshold: float, sensitivity: Share, specificity: Share, prevalences: tuple[float, ...]
) -> WhatIf:
    """Return what ``sensitivity`` and ``specificity`` would mean at each of ``prevalences``, in (0, 1)."""
    rows = (_at(prevalence, sensitivity, specificity) for prevalence in prevalences)
    return WhatIf(name=name, threshold=threshold, sensitivity=sensitivity, specificity=specificity, rows=tuple(rows))


def _at(prevalence: float, sensitivity: Share, specificity: Share) -> AtPrevalence:
    def ppv(sens: float, spec: float) -> float | None:
        return _of(sens * prevalence, (1 - spec) * (1 - prevalence))

    def npv(sens: float, spec: float) -> float | None:
        return _of(spec * (1 - prevalence), (1 - sens) * prevalence)

    def called_benign(sens: float, spec: float) -> float:
        return spec * (1 - prevalence) + (1 - sens) * prevalence

    def missed(sens: float, _: float) -> float:
        return (1 - sens) * prevalence

    return AtPrevalence(
        prevalence=prevalence,
        ppv=_projected(ppv, sensitivity, specificity),
        npv=_projected(npv, sensitivity, specificity),
        called_benign=_required(called_benign, sensitivity, specificity),
        missed=_required(missed, sensitivity, specificity),
    )


def _of(part: float, rest: float) -> float | None:
    return part / (part + rest) if part + rest > 0 else None


def _projected(figure: Callable[[float, float], float | None], sensitivity: Share, specificity: Share) -> Share | None:
    value = figure(sensitivity.value, specificity.value)
    if value is None:
        return None
    if sensitivity.interval is None or specificity.interval is None:
        return Share(value=value, interval=None)
    # Each figure rises or falls with either rate alone, so that its extremes are at the corners of both intervals.
    ends = itertools.product(
        (sensitivity.interval.low, sensitivity.interval.high), (specificity.interval.low, specificity.interval.high)
    )
    corners = [figure(sens, spec) for sens, spec in ends]
    defined = [corner for corner in corners if corner is not None]
    interval = ConfidenceInterval(low=min(*defined, value), high=max(*defined, value)) if defined == corners else None
    return Share(value=value, interval=interval)


def _required(figure: Callable[[float, float], float], sensitivity: Share, specificity: Share) -> Share:
    found = _projected(figure, sensitivity, specificity)
    if found is None:
        raise ValueError("Expected a figure that is defined for every sensitivity and specificity.")
    return found
