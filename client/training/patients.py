"""A site's lesions grouped by patient, the unit of privacy: a patient's lesions are always computed together."""

import dataclasses
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from shared_model.data.lesions import Lesions


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PatientBatch:
    """All ``N`` lesions of ``P`` patients, one patient after the other."""

    images: Tensor
    has_image: Tensor
    clinical: Tensor
    labels: Tensor
    sizes: Tensor
    """``(P,)``, int64: each patient's number of lesions, at least 1."""

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a network reads: images, has_image, clinical."""
        return self.images, self.has_image, self.clinical

    @property
    def patient_of_lesion(self) -> Tensor:
        """``(N,)``, int64: the position in ``sizes`` of each lesion's patient."""
        return torch.repeat_interleave(torch.arange(len(self.sizes), device=self.sizes.device), self.sizes)

    @property
    def weights(self) -> Tensor:
        """``(N,)``, float32: 1 / (the patient's number of lesions)."""
        return 1 / self.sizes[self.patient_of_lesion]

    def single_patients(self) -> Iterator["PatientBatch"]:
        """Yield a batch for each patient."""
        sizes = self.sizes.tolist()
        columns = (values.split(sizes) for values in (*self.inputs, self.labels))  # type: ignore[no-untyped-call]
        for size, images, has_image, clinical, labels in zip(self.sizes, *columns, strict=True):
            yield PatientBatch(images=images, has_image=has_image, clinical=clinical, labels=labels, sizes=size.view(1))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LesionsByPatient:
    """A site's lesions grouped by patient; index ``i`` is the ``i``-th smallest of ``lesions.patients``."""

    lesions: Lesions
    rows: Tensor
    """``(N,)``, int64: row numbers, patient after patient."""
    sizes: Tensor
    """``(P,)``, int64: each patient's number of lesions."""
    is_finite: Tensor
    """``(P,)``, bool: whether all of the patient's inputs are finite."""

    @classmethod
    def from_lesions(cls, lesions: Lesions) -> Self:
        """Group ``lesions`` by patient."""
        _, patient_of, sizes = torch.unique(lesions.patients, return_inverse=True, return_counts=True)
        is_finite = torch.ones_like(sizes, dtype=torch.bool)
        for values in (lesions.images, lesions.clinical, lesions.labels):
            is_finite[patient_of[~torch.isfinite(values).unsqueeze(-1).flatten(1).all(1)]] = False
        rows = torch.argsort(patient_of, stable=True)
        return cls(lesions=lesions, rows=rows, sizes=sizes, is_finite=is_finite)

    def batch(self, patients: Tensor) -> PatientBatch:
        """Return the lesions of ``patients`` (indices), in that order."""
        sizes = self.sizes[patients]
        starts = (torch.cumsum(self.sizes, 0) - self.sizes)[patients]
        shifts = starts - (torch.cumsum(sizes, 0) - sizes)
        rows = self.rows[torch.repeat_interleave(shifts, sizes) + torch.arange(int(sizes.sum()), device=sizes.device)]
        return PatientBatch(
            images=self.lesions.images[rows],
            has_image=self.lesions.has_image[rows],
            clinical=self.lesions.clinical[rows],
            labels=self.lesions.labels[rows],
            sizes=sizes,
        )

    def batches(self, patients: Tensor, *, num_lesions: int) -> Iterator[PatientBatch]:
        """Yield ``patients`` (indices) in batches of about ``num_lesions`` >= 1 lesions.

        No patient is split: a batch has fewer than ``num_lesions`` plus the size of one of its patients.
        """
        part = (torch.cumsum(self.sizes[patients], 0) - 1) // num_lesions
        _, counts = torch.unique_consecutive(part, return_counts=True)
        for indices in patients.split(counts.tolist()):  # type: ignore[no-untyped-call]
            yield self.batch(indices)
