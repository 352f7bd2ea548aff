"""Bounds on epsilon from trials, against exact intervals and mechanisms whose epsilon is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from simulations.attacks.epsilon_bounds import epsilon_lower_bounds, proportion_lower_limits, proportion_upper_limits

DELTAS = (1e-4, 0.01, 0.1, 0.3)


def delta_of_gaussian(separation, epsilon):
    """Balle & Wang 2018, Theorem 8, with ``separation`` = sensitivity / standard deviation."""
    half, ratio = separation / 2, epsilon / separation
    return norm.cdf(half - ratio) - math.exp(epsilon) * norm.cdf(-half - ratio)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_limits_of_a_share_are_those_of_clopper_and_pearson(level):
    counts = np.arange(21.0)
    for found, side in (
        (proportion_lower_limits(counts, 20, level=level), 0),
        (proportion_upper_limits(counts, 20, level=level), 1),
    ):
        expected = [
            binomtest(int(count), 20, alternative=("greater", "less")[side]).proportion_ci(level, method="exact")[side]
            for count in counts
        ]
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("separation", [0.5, 2.0, 4.0])
def test_bounds_stay_below_the_truth_as_often_as_they_say_and_come_close(separation, sign):
    # Reference: two unit normals, whose (epsilon, delta) is known in closed form.
    rng = np.random.default_rng(int(10 * separation) + sign)
    num_repeats, num_broken, best = 100, 0, []
    for _ in range(num_repeats):
        without, with_canary = rng.normal(size=2000), rng.normal(loc=separation, size=2000)
        if sign < 0:
            without, with_canary = -with_canary, -without
        found = epsilon_lower_bounds(without, with_canary, DELTAS, confidence=0.9)
        num_broken += any(
            delta_of_gaussian(separation, epsilon) < delta
            for delta, epsilon in zip(DELTAS, found, strict=True)
            if epsilon
        )
        best.append(max(found))
    # A tenth may break; as many as 20 of 100 would with probability 0.002 if just a tenth did.
    assert num_broken < 20
    assert np.median(best) > 0.4 * separation


def test_worlds_that_are_alike_prove_nothing():
    scores = np.random.default_rng(0).normal(size=1000)
    assert max(epsilon_lower_bounds(scores, scores, DELTAS, confidence=0.95)) < 0.3
    assert epsilon_lower_bounds(np.zeros(10), np.zeros(10), DELTAS, confidence=0.95) == [0.0] * 4


def test_worlds_that_never_meet_prove_what_their_number_allows():
    found = epsilon_lower_bounds(np.zeros(2000), np.ones(2000), (0.1,), confidence=0.95)
    share = 0.025 ** (1 / 1000)
    assert found == [pytest.approx(math.log((share - 0.1) / (1 - share)))]


@given(st.integers(1, 200), st.floats(0.5, 0.999), st.data())
def test_limits_hold_the_proportion_seen_between_them_and_mirror_each_other(total, level, data):
    count = np.array([float(data.draw(st.integers(0, total)))])
    lower = proportion_lower_limits(count, total, level=level)
    upper = proportion_upper_limits(count, total, level=level)
    assert 0 <= lower[0] <= count[0] / total <= upper[0] <= 1
    assert lower == pytest.approx(1 - proportion_upper_limits(total - count, total, level=level))


@given(st.integers(4, 60), st.integers(0, 99))
def test_bounds_do_not_depend_on_the_scale_of_the_scores(num_trials, seed):
    rng = np.random.default_rng(seed)
    without, with_canary = rng.normal(size=num_trials), rng.normal(loc=2.0, size=num_trials)
    bounds = epsilon_lower_bounds(without, with_canary, DELTAS, confidence=0.95)
    assert epsilon_lower_bounds(np.exp(without), np.exp(with_canary), DELTAS, confidence=0.95) == bounds
    assert min(bounds) >= 0


def test_more_confidence_proves_less():
    rng = np.random.default_rng(1)
    without, with_canary = rng.normal(size=1000), rng.normal(loc=3.0, size=1000)
    by_confidence = [epsilon_lower_bounds(without, with_canary, (0.01,), confidence=c)[0] for c in (0.5, 0.9, 0.999)]
    assert by_confidence == sorted(by_confidence, reverse=True)
    assert len(set(by_confidence)) == 3
