"""Lesions as tensors: what the network reads, at a site and in the server's own file of test lesions.

One row is one view of a lesion, for example the mediolateral oblique view of a mass in the left breast.
"""

import dataclasses
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from shared_model.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Lesions:
    """``N`` views of lesions as network input; row ``i`` of every tensor is the same view."""

    images: Tensor
    """Cached features ``(N, D)`` or pixels ``(N, 1, H, W)``, float32; zeros where ``has_image`` is false."""
    has_image: Tensor
    """``(N,)``, bool."""
    clinical: Tensor
    """``(N, C)``, float32."""
    labels: Tensor
    """``(N,)``, float32: 1 malignant, 0 benign."""
    patients: Tensor
    """``(N,)``, int64: patients numbered from 0; equal numbers are the same patient."""

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in _FIELDS}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"Expected equally many rows in every tensor, got {lengths}.")
        for name, dtype in _FIELDS.items():
            if getattr(self, name).dtype != dtype:
                raise ValueError(f"Expected {name} of {dtype}, got {getattr(self, name).dtype}.")
            if getattr(self, name).ndim not in _DIMENSIONS[name]:
                raise ValueError(f"Expected {name} of {_DIMENSIONS[name]} dimensions, got {getattr(self, name).ndim}.")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_patients(self) -> int:
        """Number of different patients."""
        return len(torch.unique(self.patients))

    def select(self, rows: Tensor) -> "Lesions":
        """Return the lesions at ``rows`` (indices or a boolean mask); patients keep their numbers."""
        return Lesions(**{name: getattr(self, name)[rows] for name in _FIELDS})

    def to_bytes(self) -> bytes:
        """Return the tensors as the content of a safetensors file."""
        return save({name: getattr(self, name).contiguous() for name in _FIELDS})

    @classmethod
    def load(cls, path: Path) -> "Lesions":
        """Read a file that holds what ``to_bytes`` returned.

        Raises:
            DataError: the file is missing, damaged or holds other tensors.
        """
        try:
            return cls(**load_file(path))
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            raise DataError(f"Expected lesion tensors in {path}: {error}") from error


_FIELDS = {
    "images": torch.float32,
    "has_image": torch.bool,
    "clinical": torch.float32,
    "labels": torch.float32,
    "patients": torch.int64,
}
_DIMENSIONS = {"images": (2, 4), "has_image": (1,), "clinical": (2,), "labels": (1,), "patients": (1,)}
