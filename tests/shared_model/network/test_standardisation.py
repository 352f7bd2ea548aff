"""Unit length keeps directions; standardised features are (x - mean) @ projection."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared_model.errors import ConfigError
from shared_model.network.standardisation import Standardisation, unit_length


@given(arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32)))
def test_vectors_get_unit_length_and_keep_their_direction(values):
    lengths = np.linalg.norm(values.astype(np.float64), axis=1)
    scaled = unit_length(torch.from_numpy(values)).double().numpy()
    is_long = lengths > 1e-5
    np.testing.assert_allclose(np.linalg.norm(scaled[is_long], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(scaled[is_long] * lengths[is_long, None], values[is_long], rtol=1e-4, atol=1e-6)
    assert (np.linalg.norm(scaled, axis=1) <= 1 + 1e-5).all()


def test_a_zero_vector_stays_zero_with_a_finite_gradient():
    vector = torch.zeros(1, 4, requires_grad=True)
    unit_length(vector).sum().backward()
    assert torch.equal(unit_length(vector), vector)
    assert torch.isfinite(vector.grad).all()


def test_without_components_features_pass_unchanged_until_constants_are_set():
    standardisation, features = Standardisation(4, 0), torch.randn(3, 4)
    assert torch.equal(standardisation(features), features)
    standardisation.mean, standardisation.projection = torch.ones(4), 2 * torch.eye(4)
    torch.testing.assert_close(standardisation(features), 2 * (features - 1))


def test_with_components_there_are_no_constants_until_they_are_set():
    standardisation = Standardisation(4, 2)
    assert standardisation.shapes == {"mean": (4,), "projection": (4, 2)}
    for use in (standardisation.constants, lambda: standardisation(torch.zeros(1, 4))):
        with pytest.raises(ConfigError, match=r"Expected image constants with model\.image_components > 0"):
            use()
    standardisation.mean, standardisation.projection = torch.zeros(4), torch.eye(4)[:, :2]
    assert standardisation(torch.ones(5, 4)).shape == (5, 2)
