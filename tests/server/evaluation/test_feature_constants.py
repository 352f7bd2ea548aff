"""Feature constants against scikit-learn's PCA, plain standardisation and too few lesions."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from server.evaluation.feature_constants import fit_feature_constants
from shared_model.errors import ConfigError


def correlated_features(num_rows, width=12):
    generator = np.random.default_rng(5)
    return (generator.normal(size=(num_rows, width)) @ generator.normal(size=(width, width)) + 3).astype(np.float32)


def test_components_are_those_of_scikit_learn_on_the_scaled_features():
    features = correlated_features(60)
    constants = fit_feature_constants(torch.from_numpy(features), num_components=4)
    variances = features.astype(np.float64).var(axis=0, ddof=1)
    scale = np.sqrt(variances + variances.mean())
    expected = PCA(n_components=4, svd_solver="full").fit_transform(features / scale)
    scores = (features - constants.mean) @ constants.projection
    signs = np.sign((scores * expected).sum(axis=0))
    np.testing.assert_allclose(scores, expected * signs, rtol=1e-3, atol=1e-4)
    directions = constants.projection * scale[:, None]
    assert (directions[np.abs(directions).argmax(axis=0), range(4)] > 0).all()


def test_without_components_each_feature_is_scaled_by_its_own_deviation():
    features = correlated_features(60)
    constants = fit_feature_constants(torch.from_numpy(features), num_components=0)
    variances = features.var(axis=0, ddof=1)
    expected = (features - features.mean(axis=0)) / np.sqrt(variances + variances.mean())
    np.testing.assert_allclose((features - constants.mean) @ constants.projection, expected, rtol=1e-3, atol=1e-4)


def test_few_lesions_do_not_blow_up_new_ones():
    features = correlated_features(200, width=100)
    constants = fit_feature_constants(torch.from_numpy(features[:9]), num_components=8)
    scores = (features[9:] - constants.mean) @ constants.projection
    assert np.abs(scores).max() < 10


@pytest.mark.parametrize(
    ("features", "num_components", "error", "message"),
    [
        (np.ones((1, 3)), 0, ConfigError, r"public lesions with an image=1 >= 2"),
        (np.eye(5), 5, ConfigError, r"=5 >= 6 for model.image_components=5: raise data.public_fraction"),
        (np.eye(5)[:, :3], 4, ConfigError, r"model.image_components=4 <= 3 features"),
        (np.full((5, 3), np.nan), 0, ValueError, "finite features"),
        (np.ones((5, 3)), 0, ValueError, "differ between lesions"),
    ],
)
def test_what_cannot_be_standardised_is_refused(features, num_components, error, message):
    with pytest.raises(error, match=message):
        fit_feature_constants(torch.from_numpy(features), num_components=num_components)
