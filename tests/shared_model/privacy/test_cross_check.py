"""Three accountants agree, and disagreement is refused."""

import math

import pytest

from shared_model.errors import PrivacyError
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.cross_check import agreement_tolerance, cross_check, epsilon_prv, epsilon_rdp
from tests.privacy_examples import make_mechanism

MODULE = "shared_model.privacy.cross_check"


@pytest.mark.parametrize(
    ("noise_multiplier", "sampling_rate", "num_steps"),
    [(2.429, 1, 20), (1.041, 0.1, 200), (30, 0.5, 20), (0.5, 0.5, 200), (0.7, 0.02, 500)],
)
def test_two_accountants_agree(noise_multiplier, sampling_rate, num_steps):
    cross_check(make_mechanism(noise_multiplier, sampling_rate, num_steps), 1e-4)


@pytest.mark.parametrize("second", [8.5, 7.5])
def test_cross_check_refuses_accountants_that_disagree(monkeypatch, second):
    monkeypatch.setattr(f"{MODULE}.epsilon_prv", lambda mechanism, delta: second)
    with pytest.raises(PrivacyError, match=rf"epsilon=7.9988 within 0.0360, got {second:.4f}"):
        cross_check(make_mechanism(2.429, num_steps=20), 1e-4)


@pytest.mark.parametrize("second", [math.inf, math.nan])
def test_cross_check_refuses_what_one_of_them_cannot_compute(monkeypatch, second):
    monkeypatch.setattr(f"{MODULE}.epsilon_prv", lambda mechanism, delta: second)
    with pytest.raises(
        PrivacyError, match=r"second accountant confirms, it cannot compute one for epsilon=7\.999; set"
    ):
        cross_check(make_mechanism(2.429, num_steps=20), 1e-4)


@pytest.mark.parametrize("sampling_rate", [1, 0.5])
@pytest.mark.parametrize(("num_steps", "of_1000", "of_100"), [(1, 0.024, 0.0913), (20, 0.095, 0.409)])
def test_some_1000_is_refused_in_one_clear_line_and_some_100_has_a_price(num_steps, sampling_rate, of_1000, of_100):
    """Earlier the error of a library at few steps."""
    refusal = r"cannot compute one for epsilon=\d+(\.\d)?; set privacy\.target_epsilon to 100 or less\.$"
    with pytest.raises(PrivacyError, match=refusal):
        cross_check(make_mechanism(of_1000, sampling_rate, num_steps), 1e-4)
    cross_check(make_mechanism(of_100, sampling_rate, num_steps), 1e-4)


def test_cross_check_refuses_a_price_above_the_looser_bound(monkeypatch):
    monkeypatch.setattr(f"{MODULE}.epsilon_rdp", lambda mechanism, delta: 7.9)
    with pytest.raises(PrivacyError, match=r"epsilon=7.9988 <= 7.9000, the bound by Renyi differential privacy"):
        cross_check(make_mechanism(2.429, num_steps=20), 1e-4)


def test_a_sequence_costs_as_much_as_its_steps_together():
    steps = [make_mechanism(2.0, 0.5, 4), make_mechanism(2.0, 0.5, 6)]
    for price in (epsilon, epsilon_rdp, epsilon_prv):
        assert price(steps, 1e-4) == pytest.approx(price(make_mechanism(2.0, 0.5, 10), 1e-4), rel=1e-9)
    assert epsilon_prv([], 1e-4) == 0


def test_tolerance_grows_with_the_price():
    assert agreement_tolerance(0.0) == 0.02
    assert agreement_tolerance(8.0) == pytest.approx(0.036)


@pytest.mark.parametrize("price", [epsilon_rdp, epsilon_prv, cross_check])
def test_delta_must_be_a_probability(price):
    with pytest.raises(ValueError, match=r"Expected delta=1.0 in \(0, 1\)"):
        price(make_mechanism(1.0), 1.0)
