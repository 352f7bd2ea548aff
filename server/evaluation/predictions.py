"""Predictions: the server's own test lesions with label, score, patient and attributes. Nothing in them is from a site.

They are written to the run folder as a CSV file. A server without test lesions writes the sites' exact histogram.
"""

import csv
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared_model.data.lesions import Lesions
from shared_model.errors import DataError
from shared_model.metrics.counts import ClassCounts, FloatArray
from shared_model.system.spreadsheets import harmless_csv

ATTRIBUTES = (
    *("site", "laterality", "view", "abnormality_type", "breast_density", "subtlety", "assessment", "pathology"),
)
"""Columns that a file of attributes may have, each optional; ``site`` is the hospital that saw the patient."""
UNKNOWN = "not stated"
PREDICTIONS_FILE = "predictions.csv"
"""In the run folder: the server's own test lesions with their scores."""
HISTOGRAM_FILE = "histogram.csv"
"""In the run folder of a server without test lesions: the sum of the sites' exact histograms."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """``N`` lesions; row ``i`` of everything is the same lesion."""

    labels: NDArray[np.int64]
    """``(N,)``: 1 malignant, 0 benign."""
    scores: FloatArray
    """``(N,)``, in [0, 1]."""
    patients: NDArray[np.int64]
    """``(N,)``: equal numbers are the same patient."""
    attributes: Mapping[str, tuple[str, ...]]
    """Some of ``ATTRIBUTES``, ``N`` values each."""

    @classmethod
    def from_lesions(
        cls, lesions: Lesions, scores: FloatArray, attributes: Mapping[str, tuple[str, ...]]
    ) -> "Predictions":
        """Join lesions, their scores and their attributes."""
        return cls(
            labels=lesions.labels.numpy().astype(np.int64),
            scores=scores,
            patients=lesions.patients.numpy(),
            attributes=attributes,
        )

    @property
    def counts(self) -> ClassCounts | None:
        """Number of benign and of malignant lesions at each score; None where one class is missing."""
        return ClassCounts.from_scores(self.labels, self.scores) if len(set(self.labels)) == 2 else None

    @property
    def breasts(self) -> NDArray[np.int64] | None:
        """The number of every lesion's breast, ``(N,)``; None where nothing says which."""
        sides = self.attributes.get("laterality")
        if sides is None or UNKNOWN in sides:
            return None
        names = [f"{patient} {side}" for patient, side in zip(self.patients, sides, strict=True)]
        return np.unique(names, return_inverse=True)[1].astype(np.int64)

    def has_same_lesions(self, other: "Predictions") -> bool:
        """Return whether both hold the same lesions in the same order, as far as labels and patients tell."""
        return np.array_equal(self.labels, other.labels) and np.array_equal(self.patients, other.patients)

    def misclassified(self, threshold: float) -> tuple[list[int], list[int]]:
        """Return the rows of missed cancers and of false alarms, those furthest from ``threshold`` first."""
        by_score = [int(row) for row in np.argsort(self.scores, kind="stable")]
        missed_cancers = [row for row in by_score if self.labels[row] and self.scores[row] < threshold]
        false_alarms = [row for row in by_score[::-1] if not self.labels[row] and self.scores[row] >= threshold]
        return missed_cancers, false_alarms

    def select(self, is_chosen: NDArray[np.bool_]) -> "Predictions":
        """Return the lesions where ``is_chosen`` ``(N,)``."""
        rows = np.flatnonzero(is_chosen)
        return Predictions(
            labels=self.labels[rows],
            scores=self.scores[rows],
            patients=self.patients[rows],
            attributes={name: tuple(values[row] for row in rows) for name, values in self.attributes.items()},
        )

    @classmethod
    def from_csv(cls, path: Path) -> "Predictions":
        """Read what ``to_csv`` returned.

        Raises:
            DataError: the file is missing, or has other content.
        """
        columns = _read_columns(path)
        try:
            return cls(
                labels=np.array(columns.pop("label"), dtype=np.int64),
                scores=np.array(columns.pop("score"), dtype=np.float64),
                patients=np.array(columns.pop("patient"), dtype=np.int64),
                attributes=_known_attributes(columns),
            )
        except (KeyError, ValueError) as error:
            raise DataError(f"Expected scored lesions in {path}: {error}.") from error

    def to_csv(self) -> bytes:
        """Return a CSV line for every lesion: number of the patient, label, score, attributes."""
        return columns_to_csv(
            {
                "patient": map(str, self.patients),
                "label": map(str, self.labels),
                "score": map(repr, map(float, self.scores)),
                **self.attributes,
            }
        )


def counts_to_csv(counts: ClassCounts) -> bytes:
    """Return a CSV line for every score at which there are lesions: score, benign and malignant lesions.

    Of a histogram, the score is the lower edge of a bin.
    """
    filled = [row for row in range(len(counts.scores)) if counts.negatives[row] or counts.positives[row]]
    return columns_to_csv(
        {
            "score": [repr(float(counts.scores[row])) for row in filled],
            "benign": [str(counts.negatives[row]) for row in filled],
            "malignant": [str(counts.positives[row]) for row in filled],
        }
    )


def counts_from_csv(path: Path) -> ClassCounts:
    """Read what ``counts_to_csv`` returned.

    Raises:
        DataError: the file is missing, or has other content.
    """
    columns = _read_columns(path)
    try:
        return ClassCounts(
            scores=np.array(columns["score"], dtype=np.float64),
            negatives=np.array(columns["benign"], dtype=np.int64),
            positives=np.array(columns["malignant"], dtype=np.int64),
        )
    except (KeyError, ValueError) as error:
        raise DataError(f"Expected lesions by score in {path}: {error}.") from error


def read_attributes(holdout: Path, num_lesions: int) -> Mapping[str, tuple[str, ...]]:
    """Read the attributes of the test lesions from the CSV file beside them, a row for every lesion in their order.

    For example, ``test.safetensors`` holds the lesions and ``test.csv`` their attributes.

    Returns:
        Attribute to ``num_lesions`` values, where an empty cell is ``UNKNOWN``; empty where there is no such file.

    Raises:
        DataError: the file cannot be read, or has an unknown column or another number of rows.
    """
    path = holdout.with_suffix(".csv")
    if not path.exists():
        return {}
    columns = _read_columns(path)
    try:
        attributes = _known_attributes(columns)
    except ValueError as error:
        raise DataError(f"Expected attributes of the test lesions in {path}: {error}.") from error
    num_rows = len(next(iter(columns.values())))
    if num_rows != num_lesions:
        raise DataError(f"Expected {num_lesions} rows in {path}, got {num_rows}.")
    return attributes


def _known_attributes(columns: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    unknown = sorted(set(columns) - set(ATTRIBUTES))
    if unknown:
        raise ValueError(f"each column must be one of {', '.join(ATTRIBUTES)}, got {', '.join(unknown)}")
    return {name: tuple(value or UNKNOWN for value in values) for name, values in columns.items()}


def columns_to_csv(columns: Mapping[str, Iterable[str]]) -> bytes:
    """Return a CSV table of columns of equal length, with a header; no cell is a formula to a spreadsheet."""
    return harmless_csv(list(columns), zip(*columns.values(), strict=True))


def _read_columns(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a CSV file as column to cells.

    Raises:
        DataError: the file cannot be read, has a column twice, or a row with more or fewer cells than columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            names, *rows = csv.reader(stream)
        cells = [*zip(*rows, strict=True)] if rows else [()] * len(names)
        columns = dict(zip(names, cells, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"Expected a CSV table in {path}: {error}.") from error
    if len(columns) != len(names):
        raise DataError(f"Expected a CSV table in {path}: a column stands there twice.")
    return columns
