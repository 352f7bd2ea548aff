"""A site's lesions grouped by patient, the unit of privacy: a patient's lesions are always computed together.

Batches have a fixed number of rows, filled up with empty ones. A library of linear algebra chooses its order of
summation by the shape of a matrix; if the shape followed the number of patients, the last bits of one patient's result
would tell whether another is there, and a coordinator can choose parameters that turn last bits into whole gradients.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from shared_model.data.lesions import Lesions


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PatientBatch:
    """All ``N`` lesions of ``P`` patients, one patient after the other; the last rows may be empty ones."""

    images: Tensor
    has_image: Tensor
    clinical: Tensor
    labels: Tensor
    sizes: Tensor
    """``(P,)``, int64: each patient's number of lesions, at least 1; an empty row counts as a patient of one lesion."""
    num_empty_rows: int = 0
    """They are the last ones, are zero throughout, and weigh nothing."""

    @property
    def num_patients(self) -> int:
        """Number of patients without the empty rows, which stand last in ``sizes`` too."""
        return len(self.sizes) - self.num_empty_rows

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a network reads: images, has_image, clinical."""
        return self.images, self.has_image, self.clinical

    @cached_property
    def patient_of_lesion(self) -> Tensor:
        """``(N,)``, int64: the position in ``sizes`` of each lesion's patient."""
        return torch.repeat_interleave(self.sizes)

    @cached_property
    def weights(self) -> Tensor:
        """``(N,)``, float32: 1 / (the patient's number of lesions); 0 for empty rows."""
        weights = 1 / self.sizes[self.patient_of_lesion]
        weights[len(weights) - self.num_empty_rows :] = 0
        return weights

    def single_patients(self) -> Iterator["PatientBatch"]:
        """Yield a batch for each patient, each in memory of its own: kernels may choose by a row's address too."""
        sizes = self.sizes.tolist()
        columns = (values.split(sizes) for values in (*self.inputs, self.labels))  # type: ignore[no-untyped-call]
        for size, *parts in zip(self.sizes, *columns, strict=True):
            images, has_image, clinical, labels = (values.clone() for values in parts)
            yield PatientBatch(images=images, has_image=has_image, clinical=clinical, labels=labels, sizes=size.view(1))

    def filled_up(self, num_rows: int) -> "PatientBatch":
        """Return the batch with empty rows up to the next multiple of ``num_rows``."""
        num_empty = -len(self.labels) % num_rows

        def longer(values: Tensor) -> Tensor:
            return torch.cat((values, values.new_zeros(num_empty, *values.shape[1:])))

        return PatientBatch(
            images=longer(self.images),
            has_image=longer(self.has_image),
            clinical=longer(self.clinical),
            labels=longer(self.labels),
            sizes=torch.cat((self.sizes, self.sizes.new_ones(num_empty))),
            num_empty_rows=num_empty,
        )


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

    def batches(self, patients: Tensor, *, num_rows: int) -> Iterator[PatientBatch]:
        """Yield ``patients`` (indices) in batches of ``num_rows`` rows, the missing ones empty.

        No patient is split: one with more than ``num_rows`` lesions has a batch of a multiple of ``num_rows`` rows to
        herself, so that no batch's shape depends on others.
        """
        for indices in _packed(self.sizes[patients].tolist(), num_rows):
            yield self.batch(patients[indices]).filled_up(num_rows)


def _packed(sizes: Sequence[int], num_rows: int) -> Iterator[slice]:
    """Yield runs of patients whose lesions fit into ``num_rows``; a larger patient is a run of one."""
    start = filled = 0
    for position, size in enumerate(sizes):
        if position > start and filled + size > num_rows:
            yield slice(start, position)
            start, filled = position, 0
        filled += size
    if start < len(sizes):
        yield slice(start, len(sizes))
