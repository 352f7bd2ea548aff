"""The views of a finding taken together: a mass that shows on CC and MLO is one mass, and is scored as one."""

import dataclasses

import torch
from torch import Tensor

from shared_model.data.lesions import Lesions


def average_views(lesions: Lesions, findings: Tensor) -> Lesions:
    """Give every view of a finding the mean over the finding's views: of the features, and of the clinical entries.

    A view without an image is left out of the mean of the features, and one without clinical data out of the other.
    Labels stay as they are, and so do the number and the order of the rows. All views of a finding belong to one
    patient, so a patient's rows still depend on that patient alone.

    Args:
        lesions: with features ``(N, D)`` as images.
        findings: ``(N,)``, int64 from 0; equal numbers are views of the same finding.

    Raises:
        ValueError: the images are pixels, of which two views have no mean, or a finding is of two patients.
    """
    if lesions.images.ndim != 2:
        raise ValueError(f"Expected images of shape {tuple(lesions.images.shape)} == (N, D).")
    patient_of_finding = torch.zeros(_count(findings), dtype=torch.int64).scatter_(0, findings, lesions.patients)
    if not torch.equal(patient_of_finding[findings], lesions.patients):
        raise ValueError("Expected every finding to be of one patient.")
    images, has_image = _mean(lesions.images, lesions.has_image, findings)
    clinical, _ = _mean(lesions.clinical, (lesions.clinical != 0).any(dim=1), findings)
    return dataclasses.replace(lesions, images=images, has_image=has_image, clinical=clinical)


def _mean(values: Tensor, is_present: Tensor, findings: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's mean over the present rows of its finding, zero where there are none, and whether there are."""
    present = torch.where(is_present[:, None], values, torch.zeros_like(values)).double()
    totals = present.new_zeros(_count(findings), values.shape[1]).index_add_(0, findings, present)
    counts = present.new_zeros(_count(findings)).index_add_(0, findings, is_present.double())
    means = (totals / counts.clamp_min(1)[:, None]).to(values.dtype)
    return means[findings], counts[findings] > 0


def _count(findings: Tensor) -> int:
    return int(findings.max()) + 1 if len(findings) else 0
