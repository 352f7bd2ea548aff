import dataclasses
import itertools
import math
import time

import mpmath
import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

from shared_model.config.choices import Loss, NoiseSource, PrivacyMode
from shared_model.config.site_sections import PrivacyConfig, TrainingConfig
from shared_model.errors import PrivacyError
from shared_model.privacy import accounting
from shared_model.privacy.accounting import (
    Mechanism,
    PrivacyPlan,
    calibrate_noise,
    cross_check,
    declared_size,
    epsilon,
    epsilon_prv,
    epsilon_rdp,
)

PRIVACY = PrivacyConfig(
    mode=PrivacyMode.PATIENT,
    target_epsilon=8.0,
    delta=1e-4,
    max_grad_norm=0.5,
    noise=NoiseSource.SECURE,
    cohort_rounding=10,
)
TRAINING = TrainingConfig(
    num_rounds=20,
    local_steps=1,
    sampling_rate=1.0,
    learning_rate=1.0,
    momentum=0.0,
    weight_decay=0.0,
    loss=Loss.CROSS_ENTROPY,
    focal_gamma=0.0,
    positive_weight=1.0,
)


def mechanism_of(noise_multiplier, sampling_rate=1.0, num_steps=1):
    return Mechanism(noise_multiplier=noise_multiplier, sampling_rate=sampling_rate, num_steps=num_steps)


def exact_gaussian_epsilon(noise_multiplier, num_steps, delta):
    """Balle & Wang 2018, Theorem 8, solved with 50 digits."""
    with mpmath.workdps(50):
        mu = mpmath.sqrt(num_steps) / mpmath.mpf(noise_multiplier)

        def excess(value):
            first = mpmath.ncdf(mu / 2 - value / mu)
            return first - mpmath.exp(value) * mpmath.ncdf(-mu / 2 - value / mu) - mpmath.mpf(delta)

        low, high = mpmath.mpf(0), mu**2 + 20 * mu
        for _ in range(120):
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) > 0 else (low, middle)
        return float(high)


def exact_one_step_epsilon(noise_multiplier, sampling_rate, delta):
    """The hockey-stick divergence of one subsampled step, in both directions, by its closed form."""

    def removal(value):
        edge = 0.5 + noise_multiplier**2 * math.log((math.exp(value) - 1 + sampling_rate) / sampling_rate)
        without, with_patient = (stats.norm.sf((edge - mean) / noise_multiplier) for mean in (0, 1))
        return (1 - sampling_rate - math.exp(value)) * without + sampling_rate * with_patient

    def addition(value):
        inner = (math.exp(-value) - 1 + sampling_rate) / sampling_rate
        if inner <= 0:
            return 0.0
        edge = 0.5 + noise_multiplier**2 * math.log(inner)
        without, with_patient = (stats.norm.cdf((edge - mean) / noise_multiplier) for mean in (0, 1))
        return without - math.exp(value) * ((1 - sampling_rate) * without + sampling_rate * with_patient)

    return brentq(lambda value: max(removal(value), addition(value)) - delta, 0, 100, xtol=1e-12)


@pytest.mark.parametrize(
    ("noise_multiplier", "num_steps", "delta"),
    [(2.429, 20, 1e-4), (1.0, 1, 1e-5), (0.3, 1, 1e-6), (30.0, 200, 1e-3), (5.0, 1000, 1e-10)],
)
def test_whole_cohort_epsilon_is_the_closed_form(noise_multiplier, num_steps, delta):
    exact = exact_gaussian_epsilon(noise_multiplier, num_steps, delta)
    assert exact <= epsilon(mechanism_of(noise_multiplier, num_steps=num_steps), delta) <= exact + 1e-8


@pytest.mark.parametrize("noise_multiplier", [0.5, 2.429, 20.0])
def test_closed_form_agrees_with_the_composed_distribution(noise_multiplier):
    composed = privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier, value_discretization_interval=1e-3
    ).self_compose(20)
    expected = composed.get_epsilon_for_delta(1e-4)
    assert epsilon(mechanism_of(noise_multiplier, num_steps=20), 1e-4) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("sampling_rate", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("noise_multiplier", [0.4, 1.0, 3.0])
def test_subsampled_epsilon_of_one_step_is_never_below_the_exact_one(noise_multiplier, sampling_rate):
    exact = exact_one_step_epsilon(noise_multiplier, sampling_rate, 1e-5)
    found = epsilon(mechanism_of(noise_multiplier, sampling_rate), 1e-5)
    assert exact * (1 - 1e-9) <= found <= exact * 1.001 + 1e-4


def test_published_values():
    # Balle & Wang 2018: the analytic Gaussian mechanism at (1, 1e-5).
    assert epsilon(mechanism_of(3.730631634816464), 1e-5) == pytest.approx(1, abs=1e-8)
    # TensorFlow Privacy's tutorial (60,000 examples, batches of 250, noise 1.3, 15 epochs) published 1.18 at 1e-5, by
    # an RDP conversion that has been improved since.
    tutorial = mechanism_of(1.3, 250 / 60_000, 3600)
    assert 0.7 < epsilon(tutorial, 1e-5) < epsilon_rdp(tutorial, 1e-5) < 1.18


def test_rate_one_is_the_limit_of_sampling():
    whole, nearly, rounded = (epsilon(mechanism_of(2.4, rate, 20), 1e-4) for rate in (1.0, 0.9999, 1 - 2**-53))
    assert rounded == whole
    assert 0.999 * whole < nearly < whole


def test_enough_noise_costs_nothing_at_this_delta():
    assert epsilon(mechanism_of(1e6), 1e-4) == 0


@settings(max_examples=15, deadline=None)
@given(
    noise_multiplier=st.floats(0.5, 20),
    sampling_rate=st.floats(0.05, 1),
    num_steps=st.integers(1, 50),
    factor=st.floats(1.2, 3),
)
def test_less_noise_more_patients_more_steps_and_a_smaller_delta_cost_more(
    noise_multiplier, sampling_rate, num_steps, factor
):
    base = mechanism_of(noise_multiplier, sampling_rate, num_steps)
    cost = epsilon(base, 1e-4)
    assume(cost > 0)
    for other in (
        dataclasses.replace(base, noise_multiplier=noise_multiplier / factor),
        dataclasses.replace(base, num_steps=math.ceil(num_steps * factor)),
    ):
        assert epsilon(other, 1e-4) > cost
    assert epsilon(base, 1e-6) > cost
    assert epsilon(dataclasses.replace(base, sampling_rate=min(1, sampling_rate * factor)), 1e-4) >= cost
    assert cost <= epsilon(dataclasses.replace(base, sampling_rate=1.0), 1e-4)
    assert cost <= epsilon_rdp(base, 1e-4)


@pytest.mark.parametrize(
    ("noise_multiplier", "sampling_rate", "num_steps"),
    [(2.429, 1, 20), (1.041, 0.1, 200), (30, 0.5, 20), (0.5, 0.5, 200), (0.7, 0.02, 500)],
)
def test_two_accountants_agree(noise_multiplier, sampling_rate, num_steps):
    cross_check(mechanism_of(noise_multiplier, sampling_rate, num_steps), 1e-4)


@pytest.mark.parametrize("second", [8.5, 7.5, math.inf, math.nan])
def test_cross_check_refuses_accountants_that_disagree(monkeypatch, second):
    monkeypatch.setattr(accounting, "epsilon_prv", lambda mechanism, delta: second)
    with pytest.raises(PrivacyError, match=rf"epsilon=7.9988 within 0.0360, got {second:.4f}"):
        cross_check(mechanism_of(2.429, num_steps=20), 1e-4)


@pytest.mark.parametrize(
    ("target", "sampling_rate", "num_steps"),
    [(8.0, 1.0, 20), (0.5, 1.0, 1), (0.01, 1.0, 20), (1000.0, 1.0, 20), (8.0, 0.1, 200), (1.0, 0.5, 20)],
)
def test_calibrated_noise_keeps_the_target_and_is_the_least_of_four_digits(target, sampling_rate, num_steps):
    found = calibrate_noise(target, delta=1e-4, sampling_rate=sampling_rate, num_steps=num_steps)
    assert float(f"{found:.3e}") == found
    assert epsilon(mechanism_of(found, sampling_rate, num_steps), 1e-4) <= target
    smaller = found - 10 ** (math.floor(math.log10(found)) - 3)
    assert epsilon(mechanism_of(smaller, sampling_rate, num_steps), 1e-4) > target


def test_calibration_of_a_long_training_takes_seconds():
    start = time.process_time()
    calibrate_noise(0.5, delta=1e-5, sampling_rate=0.01, num_steps=10_000)
    assert time.process_time() - start < 5


def test_plan_prices_the_rounds_so_far():
    plan = PrivacyPlan.calibrate(PRIVACY, TRAINING, num_patients_declared=200)
    assert plan.noise_multiplier == 2.429
    assert plan.epsilon_after(0) == 0
    spent = [plan.epsilon_after(num_rounds) for num_rounds in range(1, 21)]
    assert all(later > earlier for earlier, later in itertools.pairwise(spent))
    assert 7.99 < spent[-1] <= 8
    # What one round costs on its own is not what the training costs: the price must name its rounds.
    assert spent[0] < 2 < spent[-1] < 20 * spent[0]
    assert plan.epsilon_after(21) > 8


def test_plan_counts_the_steps_of_a_round():
    training = dataclasses.replace(TRAINING, num_rounds=4, local_steps=5)
    plan = PrivacyPlan.calibrate(PRIVACY, training, num_patients_declared=200)
    assert plan.mechanism(2) == mechanism_of(2.429, num_steps=10)
    assert plan.epsilon_after(4) == PrivacyPlan.calibrate(PRIVACY, TRAINING, 200).epsilon_after(20)


def test_plan_refuses_a_delta_that_may_publish_a_patient():
    with pytest.raises(PrivacyError, match=r"Expected delta=0.0001 < 1 / num_patients_declared=10000"):
        PrivacyPlan.calibrate(PRIVACY, TRAINING, num_patients_declared=10_000)


def test_plan_needs_a_promise():
    off = PrivacyConfig(
        mode=PrivacyMode.OFF, target_epsilon=None, delta=None, max_grad_norm=None, noise=None, cohort_rounding=10
    )
    with pytest.raises(ValueError, match=r"Expected privacy.mode=off to be patient"):
        PrivacyPlan.calibrate(off, TRAINING, num_patients_declared=100)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noise_multiplier", 0.0),
        ("noise_multiplier", -1.0),
        ("sampling_rate", 1.5),
        ("max_grad_norm", 0.0),
        ("target_epsilon", math.inf),
        ("delta", 1.0),
        ("num_rounds", 0),
        ("steps_per_round", 0),
        ("num_patients_declared", 0),
    ],
)
def test_plan_refuses_values_out_of_bounds(field, value):
    plan = PrivacyPlan.calibrate(PRIVACY, TRAINING, num_patients_declared=200)
    with pytest.raises(ValueError, match="Expected "):
        dataclasses.replace(plan, **{field: value})
    with pytest.raises(ValueError, match="Expected num_rounds=-1 >= 0"):
        plan.epsilon_after(-1)


def test_mechanism_needs_a_step():
    with pytest.raises(ValueError, match="Expected num_steps=0 >= 1"):
        mechanism_of(1.0, num_steps=0)


@pytest.mark.parametrize("price", [epsilon, epsilon_rdp, epsilon_prv, cross_check])
def test_delta_must_be_a_probability(price):
    with pytest.raises(ValueError, match=r"Expected delta=1.0 in \(0, 1\)"):
        price(mechanism_of(1.0), 1.0)


def test_calibration_needs_a_target():
    with pytest.raises(ValueError, match=r"Expected target_epsilon=0.0 > 0"):
        calibrate_noise(0.0, delta=1e-4, sampling_rate=1.0, num_steps=1)


@given(num_patients=st.integers(1, 10_000), rounding=st.integers(1, 100))
def test_declared_size_is_the_largest_multiple_not_above(num_patients, rounding):
    assume(num_patients >= rounding)
    declared = declared_size(num_patients, rounding)
    assert declared % rounding == 0
    assert 0 < declared <= num_patients < declared + rounding


def test_declared_size_is_never_zero():
    with pytest.raises(PrivacyError, match="Expected num_patients=9 >= cohort_rounding=10"):
        declared_size(9, 10)
    with pytest.raises(ValueError, match="Expected rounding=0 >= 1"):
        declared_size(9, 0)
