"""Bounds from an audit in one run, against exact fractions, closed forms and mechanisms whose epsilon is known."""

import dataclasses
import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from shared_model.errors import ConfigError
from shared_model.privacy.one_run_bound import OneRunAudit, least_epsilon, p_value
from shared_model.system.documents import to_json
from tests.one_run_audits import AUDIT

COUNTS = st.integers(1, 60).flatmap(
    lambda canaries: st.integers(0, canaries).flatmap(
        lambda guesses: st.tuples(st.just(canaries), st.just(guesses), st.integers(0, guesses))
    )
)


def exact_p_value(num_right, odds, delta, *, num_guesses, num_canaries):
    """The published formula, term by term in exact fractions; ``odds`` is e^epsilon, a whole number."""
    chance = Fraction(odds, odds + 1)

    def mass(count):
        return math.comb(num_guesses, count) * chance**count * (1 - chance) ** (num_guesses - count)

    tail = sum((mass(count) for count in range(num_right, num_guesses + 1)), Fraction(0))
    steepest = Fraction(0)
    for fewer in range(1, num_canaries + 1):
        between = sum((mass(count) for count in range(max(0, num_right - fewer), num_right)), Fraction(0))
        steepest = max(steepest, between / fewer)
    return min(Fraction(1), tail + 2 * num_canaries * Fraction(delta) * steepest)


@given(COUNTS, st.integers(1, 200), st.sampled_from([0.0, 1e-6, 1e-4, 0.01, 1.0]))
def test_the_p_value_is_the_published_formula(counts, odds, delta):
    num_canaries, num_guesses, num_right = counts
    found = p_value(num_right, math.log(odds), delta, num_guesses=num_guesses, num_canaries=num_canaries)
    exact = exact_p_value(num_right, odds, delta, num_guesses=num_guesses, num_canaries=num_canaries)
    assert found == pytest.approx(float(exact), rel=1e-9, abs=1e-15)


def test_p_values_by_hand():
    # One canary, guessed right under epsilon 0: half the time, and delta adds 2 * delta * P[W = 0].
    assert p_value(1, 0.0, 0.1, num_guesses=1, num_canaries=1) == pytest.approx(0.5 + 2 * 0.1 * 0.5)
    # Two of two with e^epsilon = 3: 9/16; P[W = 1] = 6/16 is more than (6/16 + 1/16) / 2.
    assert p_value(2, math.log(3), 0.01, num_guesses=2, num_canaries=4) == pytest.approx(9 / 16 + 8 * 0.01 * 6 / 16)
    assert p_value(0, 1.0, 0.5, num_guesses=0, num_canaries=5) == 1.0


@pytest.mark.parametrize(("count", "confidence"), [(5, 0.95), (10, 0.9), (100, 0.95), (300, 0.99)])
def test_all_right_without_delta_is_a_closed_form(count, confidence):
    share = (1 - confidence) ** (1 / count)
    found = least_epsilon(count, 0.0, num_guesses=count, num_canaries=count, confidence=confidence)
    assert found == pytest.approx(math.log(share / (1 - share)))


def test_few_guesses_or_wrong_ones_prove_nothing():
    assert least_epsilon(4, 0.0, num_guesses=4, num_canaries=4) == 0.0
    assert least_epsilon(50, 0.0, num_guesses=100, num_canaries=100) == 0.0
    assert least_epsilon(0, 1e-4, num_guesses=0, num_canaries=100) == 0.0
    assert least_epsilon(100, 0.5, num_guesses=100, num_canaries=300) == 0.0


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("delta", [0.0, 1e-3, 0.01])
@pytest.mark.parametrize("count", [20, 150])
def test_a_bound_exceeds_the_truth_as_rarely_as_it_says(epsilon, delta, count):
    """Randomised response that tells the truth outright with probability delta is (epsilon, delta)-private."""
    chance = 1 / (1 + math.exp(-epsilon))
    chance = delta + (1 - delta) * chance
    broken = sum(
        binom.pmf(right, count, chance)
        for right in range(count + 1)
        if least_epsilon(right, delta, num_guesses=count, num_canaries=count) > epsilon
    )
    assert broken <= 0.05


def test_many_guesses_come_close_to_the_truth():
    """Ten thousand answers of randomised response at epsilon 2, right as often as expected."""
    right = round(10_000 / (1 + math.exp(-2.0)))
    assert 1.9 < least_epsilon(right, 0.0, num_guesses=10_000, num_canaries=10_000) < 2.0


@given(COUNTS, st.floats(0, 0.01))
def test_a_bound_grows_with_right_guesses_and_falls_with_delta_and_confidence(counts, delta):
    num_canaries, num_guesses, num_right = counts

    def bound(right, at_delta, confidence=0.95):
        return least_epsilon(right, at_delta, num_guesses=num_guesses, num_canaries=num_canaries, confidence=confidence)

    found = bound(num_right, delta)
    assert 0 <= found < 50
    assert bound(num_right, 0.0) >= found - 1e-9
    assert bound(num_right, delta, 0.99) <= found + 1e-9
    if num_right < num_guesses:
        assert bound(num_right + 1, 0.0) >= bound(num_right, 0.0)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((3, 2, 5), "num_right=3 <= 2 guesses"), ((-1, 2, 5), "num_right=-1"), ((1, 6, 5), "6 guesses <= 5 canaries")],
)
def test_impossible_counts(counts, expected):
    num_right, num_guesses, num_canaries = counts
    with pytest.raises(ValueError, match=expected):
        p_value(num_right, 1.0, 0.0, num_guesses=num_guesses, num_canaries=num_canaries)


def test_impossible_epsilon_delta_and_confidence():
    with pytest.raises(ValueError, match=r"epsilon=-1.0 >= 0"):
        p_value(1, -1.0, 0.0, num_guesses=1, num_canaries=1)
    with pytest.raises(ValueError, match=r"delta=1.5 in \[0, 1\]"):
        p_value(1, 1.0, 1.5, num_guesses=1, num_canaries=1)
    with pytest.raises(ValueError, match=r"confidence=1.0 in \(0, 1\)"):
        least_epsilon(1, 0.0, num_guesses=1, num_canaries=1, confidence=1.0)


class TestFile:
    def test_an_audit_is_read_as_it_was_written(self, tmp_path):
        (tmp_path / "audit.json").write_text(to_json(AUDIT))
        assert OneRunAudit.load(tmp_path / "audit.json") == AUDIT

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"least_epsilon": 0.5}, "follows from the guesses"),
            ({"num_right": 90}, "follows from the guesses"),
            ({"num_right": 101}, "num_right=101 at most num_guesses=100"),
            ({"claimed_epsilon": 0}, "claimed_epsilon=0"),
            ({"more": 1}, "more"),
        ],
    )
    def test_a_figure_that_does_not_follow_is_refused(self, tmp_path, change, expected):
        (tmp_path / "audit.json").write_text(json.dumps(json.loads(to_json(AUDIT)) | change))
        with pytest.raises(ConfigError, match=expected):
            OneRunAudit.load(tmp_path / "audit.json")

    @pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
    def test_no_audit(self, tmp_path, text):
        (tmp_path / "audit.json").write_text(text)
        with pytest.raises(ConfigError, match=r"audit\.json"):
            OneRunAudit.load(tmp_path / "audit.json")
        with pytest.raises(ConfigError, match=r"none\.json"):
            OneRunAudit.load(tmp_path / "none.json")


def test_more_than_was_claimed_is_a_violation():
    assert not AUDIT.is_violated
    assert dataclasses.replace(AUDIT, claimed_epsilon=2.0).is_violated
