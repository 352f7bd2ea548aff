"""Mistakes that an audit of the private mechanism must notice."""

import dataclasses
import enum

import torch

from shared_model.data.lesions import Lesions
from shared_model.privacy.plan import PrivacyPlan

_WITHOUT_CLIPPING = 1e3
"""Times the clipping norm: longer than any gradient in an audit."""


class Fault(enum.StrEnum):
    """A mistake planted in the mechanism; the epsilon that the plan claims does not allow for it."""

    NONE = "none"
    HALF_NOISE = "noise at half scale"
    NO_CLIPPING = "clipping switched off"
    PER_LESION = "lesions clipped one by one"
    """A patient with many lesions then moves the sum by many times the clipping norm."""


def lesions_with_fault(lesions: Lesions, fault: Fault) -> Lesions:
    """Return the lesions as a mechanism with ``fault`` takes them; faults that lie elsewhere leave them as they are."""
    if fault is Fault.PER_LESION:
        return dataclasses.replace(lesions, patients=torch.arange(len(lesions)))
    return lesions


def with_fault(plan: PrivacyPlan, fault: Fault) -> PrivacyPlan:
    """Return the plan that a mechanism with ``fault`` follows; faults that lie elsewhere leave it as it is."""
    if fault is Fault.HALF_NOISE:
        return dataclasses.replace(plan, noise_multiplier=plan.noise_multiplier / 2)
    if fault is Fault.NO_CLIPPING:
        # As much noise as before.
        return dataclasses.replace(
            plan,
            max_grad_norm=plan.max_grad_norm * _WITHOUT_CLIPPING,
            noise_multiplier=plan.noise_multiplier / _WITHOUT_CLIPPING,
        )
    return plan
