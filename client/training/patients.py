"""A site's lesions grouped by patient, so that whatever is computed in parts never splits one."""

import dataclasses
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from shared_model.data.lesions import Lesions


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bags:
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
    def owners(self) -> Tensor:
        """``(N,)``, int64: the position in ``sizes`` of each lesion's patient."""
        return torch.repeat_interleave(torch.arange(len(self.sizes), device=self.sizes.device), self.sizes)

    @property
    def weights(self) -> Tensor:
        """``(N,)``, float32: 1 / (the patient's number of lesions)."""
        return 1 / self.sizes[self.owners]

    def each(self) -> Iterator["Bags"]:
        """Yield the patients one by one."""
        sizes = self.sizes.tolist()
        columns = (values.split(sizes) for values in (*self.inputs, self.labels))  # type: ignore[no-untyped-call]
        for size, images, has_image, clinical, labels in zip(self.sizes, *columns, strict=True):
            yield Bags(images=images, has_image=has_image, clinical=clinical, labels=labels, sizes=size.view(1))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """A site's lesions grouped by patient; patient ``i`` here is the one with the ``i``-th smallest number."""

    lesions: Lesions
    rows: Tensor
    """``(N,)``, int64: row numbers, patient after patient."""
    sizes: Tensor
    """``(P,)``, int64: each patient's number of lesions."""
    is_finite: Tensor
    """``(P,)``, bool: whether all of the patient's inputs are finite."""

    @classmethod
    def of(cls, lesions: Lesions) -> Self:
        """Group ``lesions`` by patient."""
        _, patient_of, sizes = torch.unique(lesions.patients, return_inverse=True, return_counts=True)
        is_finite = torch.ones_like(sizes, dtype=torch.bool)
        for values in (lesions.images, lesions.clinical, lesions.labels):
            is_finite[patient_of[~torch.isfinite(values).unsqueeze(-1).flatten(1).all(1)]] = False
        rows = torch.argsort(patient_of, stable=True)
        return cls(lesions=lesions, rows=rows, sizes=sizes, is_finite=is_finite)

    def bags(self, patients: Tensor) -> Bags:
        """Return the lesions of ``patients`` (indices), in that order."""
        sizes = self.sizes[patients]
        starts = (torch.cumsum(self.sizes, 0) - self.sizes)[patients]
        shifts = starts - (torch.cumsum(sizes, 0) - sizes)
        rows = self.rows[torch.repeat_interleave(shifts, sizes) + torch.arange(int(sizes.sum()), device=sizes.device)]
        of = self.lesions
        return Bags(
            images=of.images[rows],
            has_image=of.has_image[rows],
            clinical=of.clinical[rows],
            labels=of.labels[rows],
            sizes=sizes,
        )

    def chunks(self, patients: Tensor, *, num_lesions: int) -> Iterator[Bags]:
        """Yield ``patients`` (indices) in parts of about ``num_lesions`` >= 1 lesions.

        A part has fewer than ``num_lesions`` plus the size of one of its patients.
        """
        part = (torch.cumsum(self.sizes[patients], 0) - 1) // num_lesions
        _, counts = torch.unique_consecutive(part, return_counts=True)
        for chunk in patients.split(counts.tolist()):  # type: ignore[no-untyped-call]
            yield self.bags(chunk)
