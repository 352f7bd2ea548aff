"""The histogram of the training patients' scores, kept in the run folder: a release says from it how sure it is."""

import dataclasses
from pathlib import Path

import numpy as np

from shared_model.config.bounds import NotNegative
from shared_model.errors import DataError
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.system.checked import build, checked
from shared_model.system.documents import from_json, to_json
from shared_model.system.files import write_atomically

TRAINING_HISTOGRAM_FILE = "training_histogram.json"
"""In the run folder, once training is over: the sum that threshold and scaling were chosen by, with its noise."""


@checked(error=ValueError)
class _Stored:
    """A ``PatientHistogram`` as the file holds it."""

    negatives: tuple[float, ...]
    positives: tuple[float, ...]
    noise_std: NotNegative


def write_training_histogram(folder: Path, histogram: PatientHistogram) -> None:
    """Write the histogram into a run folder; without noise, it counts the patients exactly and must stay there."""
    stored = _Stored(
        negatives=tuple(map(float, histogram.negatives)),
        positives=tuple(map(float, histogram.positives)),
        noise_std=float(histogram.noise_std),
    )
    write_atomically(folder / TRAINING_HISTOGRAM_FILE, to_json(stored).encode())


def read_training_histogram(folder: Path) -> PatientHistogram | None:
    """Read what ``write_training_histogram`` wrote; None where there is no such file.

    Raises:
        DataError: the file holds something else.
    """
    path = folder / TRAINING_HISTOGRAM_FILE
    try:
        values = dataclasses.asdict(build(_Stored, from_json(path.read_text(encoding="utf-8"))))
        counts = {name: np.array(values[name], dtype=np.float64) for name in ("negatives", "positives")}
        return PatientHistogram(noise_std=values["noise_std"], **counts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"Expected a histogram of scores in {path}: {error}") from error
