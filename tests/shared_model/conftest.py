"""What several tests of figures of merit start from."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def cohort():
    """Return a function that makes labels, scores and patients of a synthetic test set."""

    def make(seed, num_lesions=200, num_steps=None, shift=1.0):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 2, num_lesions)
        scores = 1 / (1 + np.exp(-generator.normal(size=num_lesions) - shift * labels))
        if num_steps is not None:
            scores = np.round(scores * num_steps) / num_steps
        return labels, scores, generator.integers(0, num_lesions // 3, num_lesions)

    return make
