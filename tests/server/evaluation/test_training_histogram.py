"""The kept histogram: what was written is read, and nothing else is."""

import numpy as np
import pytest

from server.evaluation.training_histogram import (
    TRAINING_HISTOGRAM_FILE,
    read_training_histogram,
    write_training_histogram,
)
from shared_model.errors import DataError
from shared_model.privacy.patient_histogram import PatientHistogram


def test_round_trip_with_negative_counts(tmp_path):
    histogram = PatientHistogram(negatives=np.array([-1.25, 3]), positives=np.array([0.5, 7]), noise_std=2.0)
    write_training_histogram(tmp_path, histogram)
    read = read_training_histogram(tmp_path)
    assert read.negatives.tolist() == [-1.25, 3]
    assert read.positives.tolist() == [0.5, 7]
    assert read.noise_std == 2


def test_a_run_without_one_has_none(tmp_path):
    assert read_training_histogram(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["[", "{}", '{"negatives": [1], "positives": [1, 2], "noise_std": 0}', '{"negatives": [NaN]}']
)
def test_anything_else_is_refused(tmp_path, text):
    (tmp_path / TRAINING_HISTOGRAM_FILE).write_text(text)
    with pytest.raises(DataError, match="Expected a histogram of scores in"):
        read_training_histogram(tmp_path)
