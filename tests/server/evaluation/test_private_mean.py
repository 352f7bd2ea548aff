"""Constants from a mean direction: that part of the features is gone, the rest is as it was."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.evaluation.private_mean import constants_without


@given(st.integers(0, 1000))
def test_nothing_is_left_along_the_direction_and_nothing_else_changes(seed):
    generator = np.random.default_rng(seed)
    direction = generator.normal(size=20)
    direction /= np.linalg.norm(direction)
    constants = constants_without(direction)
    features = generator.normal(size=(5, 20))
    mapped = (features - constants.mean) @ constants.projection
    np.testing.assert_allclose(mapped @ direction, 0, atol=1e-5)
    np.testing.assert_allclose(features - mapped, np.outer(features @ direction, direction), atol=1e-5)
    assert constants.projection.dtype == np.float32
