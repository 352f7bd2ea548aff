"""The arrays of an evaluation, by role and class."""

import numpy as np

from shared_model.messages.types import EvaluateReply
from shared_model.metrics.score_histogram import ScoreHistogram


def test_every_role_and_class_has_its_array():
    test = ScoreHistogram(negatives=np.array([1, 2]), positives=np.array([3, 4]))
    validation = ScoreHistogram(negatives=np.array([5, 6]), positives=np.array([7, 8]))
    arrays = EvaluateReply(site="MGH", server_round=1, test=test, validation=validation).arrays()
    assert {name: counts.tolist() for name, counts in arrays.items()} == {
        "test-negatives": [1, 2],
        "test-positives": [3, 4],
        "validation-negatives": [5, 6],
        "validation-positives": [7, 8],
    }
