"""Distances that can be checked by hand, and tests that reject as often as they say."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from shared_model.metrics.drift import MIN_CASES, drift, drift_from_mixture


def test_by_hand():
    here = [0.1] * 15 + [0.9] * 15
    found = drift(here, [0.5] * 30)
    assert found.distance == 0.5
    assert found.p_value == pytest.approx(ks_2samp(here, [0.5] * 30, method="exact").pvalue)
    # Twice the bound of Massart with 30 cases and 2.5 per cent each: sqrt(log(80) / 60).
    assert found.interval.low == 0
    assert found.interval.high == pytest.approx(min(1, 0.5 + 2 * np.sqrt(np.log(80) / 60)))


def test_too_few_say_nothing():
    many, few = np.linspace(0, 1, MIN_CASES), np.linspace(0, 1, MIN_CASES - 1)
    assert drift(few, many) is None
    assert drift(many, few) is None
    assert drift_from_mixture(many, many, few) is None
    assert drift(many, many).p_value == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match="finite"):
        drift([value] * 40, [0.0] * 40)
    with pytest.raises(ValueError, match="finite"):
        drift_from_mixture([0.0] * 40, [value] * 40, [0.0] * 40)
    with pytest.raises(ValueError, match="two classes"):
        drift_from_mixture([0.0] * 40, [0.0] * 40)


def test_no_share_of_cancers_is_drift_but_another_shape_is():
    rng = np.random.default_rng(1)
    benign, malignant = rng.normal(0, 1, 400), rng.normal(3, 1, 400)
    for share in (0.02, 0.5, 0.9):
        num_malignant = round(200 * share)
        here = np.concatenate((rng.normal(0, 1, 200 - num_malignant), rng.normal(3, 1, num_malignant)))
        found = drift_from_mixture(here, benign, malignant)
        assert found.p_value > 0.01
        assert found.interval.low == 0
        plain = drift(here, np.concatenate((benign, malignant)))
        assert plain.distance >= found.distance - 0.05
    assert drift_from_mixture(rng.normal(1.5, 0.3, 200), benign, malignant).p_value < 1e-6


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_what_has_not_moved_is_seldom_called_so(share):
    """At most at the level that was asked for, over 400 hospitals and references."""
    rng = np.random.default_rng(2)
    rejected = 0
    for _ in range(400):
        is_malignant = rng.random(60) < share
        here = np.where(is_malignant, rng.normal(2, 1, 60), rng.normal(0, 1, 60))
        found = drift_from_mixture(here, rng.normal(0, 1, 60), rng.normal(2, 1, 60))
        rejected += found.p_value < 0.05
    # Binomial with 0.05: more than 32 of 400 has a chance of 0.5 per cent.
    assert rejected <= 32


def test_the_interval_holds_the_distance():
    """Of two normal distributions one standard deviation apart it is 2 Phi(1/2) - 1 = 0.383."""
    rng = np.random.default_rng(3)
    held = [
        found.interval.low <= 0.3829 <= found.interval.high
        for found in (drift(rng.normal(0, 1, 50), rng.normal(1, 1, 80)) for _ in range(200))
    ]
    assert np.mean(held) >= 0.95
