"""Agreement: noise has none, a common task has some, a negated update the opposite; half of all sites always count."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.federation import agreement
from server.federation.agreement import MEMORY, MOST_DISAGREEMENT, STRANGER, Agreement, after_round, angles, distances

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9)


def of(score):
    return Agreement(total=score, variance=1.0)


def trust(agreements):
    return [agreement.trust(distance) for distance in distances(agreements)]


def rounds_of(draw, *, num_sites, num_rounds, num_entries):
    """Agreements after rounds whose updates ``draw(round)`` gives, ``(N, d)``."""
    known = [STRANGER] * num_sites
    for number in range(num_rounds):
        rows = draw(number)
        known = after_round(known, angles(rows @ rows.T), num_entries)
    return known


def test_by_hand():
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    first = after_round([STRANGER] * 3, angles(rows @ rows.T), 2)
    assert [known.score for known in first] == pytest.approx([0.0, 0.0, -2.0])
    second = after_round(first, angles(rows @ rows.T), 2)
    assert second[2].total == pytest.approx(-2 * MEMORY - 2)
    assert second[2].variance == pytest.approx(MEMORY**2 + 1)


def test_pure_noise_has_mean_0_and_variance_1():
    generator = np.random.default_rng(0)
    scores = [
        known.score
        for _ in range(400)
        for known in rounds_of(lambda _: generator.normal(size=(4, 50)), num_sites=4, num_rounds=5, num_entries=50)
    ]
    assert abs(np.mean(scores)) < 0.1
    assert np.std(scores) == pytest.approx(1.0, abs=0.1)


def test_lengths_do_not_matter():
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(3, 20))
    longer = rows * np.array([[1.0], [1e3], [1e-3]])
    np.testing.assert_allclose(angles(rows @ rows.T), angles(longer @ longer.T), atol=1e-12)


def test_an_empty_update_agrees_with_nobody_and_against_nobody():
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    cosines = angles(rows @ rows.T)
    assert cosines[0].tolist() == [0.0, 0.0, 0.0]
    assert np.isfinite(cosines).all()


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_who_negates_updates_loses_trust_within_rounds_and_nobody_else_does(liar):
    generator, task = np.random.default_rng(2), np.ones(40)

    def draw(_):
        rows = task + 1.5 * generator.normal(size=(3, 40))
        rows[liar] *= -1
        return rows

    shares = trust(rounds_of(draw, num_sites=3, num_rounds=6, num_entries=40))
    assert shares[liar] == 0.0
    assert min(shares[:liar] + shares[liar + 1 :]) > 0.5


def test_a_reputation_is_lost_again():
    generator, task = np.random.default_rng(3), np.ones(40)

    def draw(number):
        rows = task + generator.normal(size=(3, 40))
        rows[0] *= 1 if number < 15 else -1
        return rows

    assert trust(rounds_of(draw, num_sites=3, num_rounds=15, num_entries=40)) == [1.0, 1.0, 1.0]
    assert trust(rounds_of(draw, num_sites=3, num_rounds=30, num_entries=40))[0] == 0.0


def test_at_convergence_all_pull_in_different_ways_and_all_count():
    rows = np.array([[1.0, 0.0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]])
    assert trust(rounds_of(lambda _: rows, num_sites=3, num_rounds=30, num_entries=1000)) == pytest.approx([1.0] * 3)


@given(SCORES)
def test_at_least_half_of_the_sites_count_in_full(scores):
    shares = trust([of(score) for score in scores])
    assert sum(share == 1.0 for share in shares) >= len(scores) / 2
    assert all(0 <= share <= 1 for share in shares)


@given(SCORES)
def test_a_better_score_never_counts_less(scores):
    shares = trust([of(score) for score in scores])
    ordered = sorted(zip(scores, shares, strict=True))
    assert [share for _, share in ordered] == sorted(shares)


@pytest.mark.parametrize(
    ("score", "share"), [(5.0, 1.0), (0.0, 1.0), (-MOST_DISAGREEMENT / 2, 0.5), (-MOST_DISAGREEMENT, 0.0), (-99.0, 0.0)]
)
def test_shares_by_hand(score, share):
    assert trust([of(1.0), of(1.0), of(score)])[2] == pytest.approx(share)


def test_of_a_stranger_nothing_is_known():
    assert STRANGER.score == 0.0
