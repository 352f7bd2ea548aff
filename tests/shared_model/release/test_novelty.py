"""Distance from public features: that of Mahalanobis, in units of one standard deviation."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from shared_model.release.novelty import FeatureReference


def test_it_is_mahalanobis_distance_over_the_root_of_the_width():
    generator = np.random.default_rng(0)
    root = generator.normal(size=(4, 4))
    covariance, mean = root @ root.T, generator.normal(size=4)
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    reference = FeatureReference(mean=mean.astype(np.float32), whitening=whitening.astype(np.float32))
    features = generator.normal(size=(5, 4)).astype(np.float32)
    expected = [mahalanobis(row, mean, np.linalg.inv(covariance)) / 2 for row in features]
    assert reference.distances(features) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("mean", "whitening", "message"),
    [(np.zeros(3), np.zeros((3, 2)), r"\(D, D\)"), (np.array([0, np.nan]), np.eye(2), "finite")],
)
def test_refuses(mean, whitening, message):
    with pytest.raises(ValueError, match=message):
        FeatureReference(mean=mean.astype(np.float32), whitening=whitening.astype(np.float32))
