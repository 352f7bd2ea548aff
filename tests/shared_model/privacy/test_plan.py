"""A privacy plan keeps its promise over its rounds, and refuses what it could not keep."""

import dataclasses
import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.config.choices import PrivacyMode
from shared_model.config.site_sections import PrivacyConfig
from shared_model.errors import PrivacyError
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.noise_shares import left_of
from shared_model.privacy.plan import PrivacyPlan
from tests.privacy_examples import PRIVACY, TRAINING, experiment_of, make_mechanism
from tests.reference_prices import gaussian_epsilon


def test_plan_prices_the_rounds_so_far():
    plan = PrivacyPlan.calibrate(experiment_of(), num_patients_declared=200)
    assert plan.noise_multiplier == 2.429
    spent = [epsilon(plan.mechanism(num_rounds), plan.delta) for num_rounds in range(1, 21)]
    assert all(later > earlier for earlier, later in itertools.pairwise(spent))
    assert 7.99 < spent[-1] <= 8
    # What one round costs on its own is not what the training costs: the price must name its rounds.
    assert spent[0] < 2 < spent[-1] < 20 * spent[0]
    assert epsilon(plan.mechanism(21), plan.delta) > 8


def test_plan_counts_the_steps_of_a_round():
    training = dataclasses.replace(TRAINING, num_rounds=4, local_steps=5)
    plan = PrivacyPlan.calibrate(experiment_of(training=training), num_patients_declared=200)
    assert plan.mechanism(2) == make_mechanism(2.429, num_steps=10)
    one_step_a_round = PrivacyPlan.calibrate(experiment_of(), num_patients_declared=200)
    assert plan.mechanism(4) == one_step_a_round.mechanism(20)


@pytest.mark.parametrize(("num_patients", "delta"), [(10_000, 1e-5), (99_999, 1e-5), (100_000, 1e-6)])
def test_plan_refuses_a_delta_that_may_publish_a_patient_and_says_what_to_set(num_patients, delta):
    refusal = rf"Expected delta=0.0001 < 1 / num_patients_declared={num_patients}; set privacy\.delta={delta:g} or less"
    with pytest.raises(PrivacyError, match=refusal):
        PrivacyPlan.calibrate(experiment_of(), num_patients_declared=num_patients)
    smaller = dataclasses.replace(experiment_of().privacy, delta=delta)
    plan = PrivacyPlan.calibrate(experiment_of(privacy=smaller), num_patients_declared=num_patients)
    assert plan.delta == delta


def test_plan_needs_a_promise():
    off = PrivacyConfig(
        mode=PrivacyMode.OFF,
        target_epsilon=None,
        delta=None,
        max_grad_norm=None,
        noise=None,
        mean_share=None,
        histogram_share=None,
        cohort_rounding=10,
    )
    with pytest.raises(ValueError, match=r"Expected privacy.mode=off to be patient"):
        PrivacyPlan.calibrate(experiment_of(privacy=off), num_patients_declared=100)


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
    plan = PrivacyPlan.calibrate(experiment_of(), num_patients_declared=200)
    with pytest.raises(ValueError, match="Expected "):
        dataclasses.replace(plan, **{field: value})


DEPLOYED = ("preset=cbis_mass",)


@given(
    st.sampled_from([0.05, 0.5, 1.0, 2.0, 8.0, 40.0]),
    st.floats(0.01, 0.4),
    st.floats(0.01, 0.4),
    st.integers(1, 60),
)
@settings(max_examples=60, deadline=None)
def test_mean_training_and_histogram_together_keep_one_promise_and_use_it(target, mean, histogram, num_rounds):
    privacy = dataclasses.replace(PRIVACY, target_epsilon=target, mean_share=mean, histogram_share=histogram)
    training = dataclasses.replace(TRAINING, num_rounds=num_rounds)
    config = experiment_of(privacy=privacy, training=training, overrides=DEPLOYED)
    plan = PrivacyPlan.calibrate(config, num_patients_declared=200)
    whole = plan.released(has_mean=True, num_rounds=num_rounds, has_histogram=True)
    # By the closed form, of one Gaussian whose 1 / noise^2 is the sum of all.
    precision = 1 / plan.mean_noise_multiplier**2 + 1 / plan.histogram_noise_multiplier**2
    precision += num_rounds / plan.noise_multiplier**2
    assert gaussian_epsilon(1, 1 / math.sqrt(precision), plan.delta) == pytest.approx(epsilon(whole, plan.delta), 1e-6)
    assert 0.99 * target < epsilon(whole, plan.delta) <= target
    # And each has its share of the budget, rounded against us.
    assert 0.995 * mean < 1 / plan.mean_noise_multiplier**2 / precision <= 1.002 * mean
    assert 0.995 * histogram < 1 / plan.histogram_noise_multiplier**2 / precision <= 1.002 * histogram


def test_sampled_training_shares_the_budget_too():
    training = dataclasses.replace(TRAINING, sampling_rate=0.5, num_rounds=5)
    config = experiment_of(training=training, overrides=DEPLOYED)
    plan = PrivacyPlan.calibrate(config, num_patients_declared=200)
    assert 7.9 < epsilon(plan.released(has_mean=True, num_rounds=5, has_histogram=True), plan.delta) <= 8
    alone = PrivacyPlan.calibrate(experiment_of(training=training), num_patients_declared=200)
    assert plan.noise_multiplier > alone.noise_multiplier


@pytest.mark.parametrize(
    ("overrides", "has_mean", "has_histogram"),
    [
        (["preset=cbis_mass"], True, True),
        (["preset=cbis_mass", "model.modality=clinical"], False, True),
        (["preset=cbis_mass", "model.backbone=small_cnn", "data.views=own"], False, True),
        (["preset=cbis_mass", "evaluation.threshold_from=held_out", "data.validation_fraction=0.1"], True, False),
        (["preset=phantom"], False, False),
        (["preset=smoke"], False, False),
    ],
)
def test_only_what_is_released_takes_a_share(overrides, has_mean, has_histogram):
    """The presets of small cohorts have public patients: there the mean's noise costs more than it gives."""
    plan = PrivacyPlan.calibrate(experiment_of(overrides=overrides), num_patients_declared=200)
    assert (plan.mean_noise_multiplier is not None) == has_mean
    assert (plan.histogram_noise_multiplier is not None) == has_histogram
    num_parts = len(plan.released(has_mean=True, num_rounds=1, has_histogram=True))
    assert num_parts == 1 + has_mean + has_histogram
    assert 7.99 < epsilon(plan.released(has_mean=True, num_rounds=20, has_histogram=True), plan.delta) <= 8


SECURE = ("federation.secure_sum=true",)


def secure_plan(num_noise_shares, **fields):
    plan = PrivacyPlan.calibrate(experiment_of(overrides=("preset=smoke", *SECURE)), num_patients_declared=200)
    return dataclasses.replace(plan, num_noise_shares=num_noise_shares, **fields)


def test_a_secure_sum_has_the_noise_of_the_plan_in_as_many_shares_as_it_has_sites_at_least():
    overrides = ("preset=smoke", *SECURE, "federation.min_sites=3")
    plan = PrivacyPlan.calibrate(experiment_of(overrides=overrides), num_patients_declared=200)
    plain = PrivacyPlan.calibrate(experiment_of(overrides=("preset=smoke",)), num_patients_declared=200)
    assert (plan.num_noise_shares, plain.num_noise_shares) == (3, 1)
    assert plan == dataclasses.replace(plain, num_noise_shares=3)
    assert plan.share(6.0) == pytest.approx(6.0 / math.sqrt(3), rel=1e-15)
    assert (plain.share(6.0), plain.own_share(plain.mechanism(2))) == (6.0, None)


@given(
    st.floats(1e-6, 1e12),
    st.integers(2, 100),
    st.integers(0, 99),
)
def test_shares_add_up_to_all_noise_or_more_and_what_is_left_of_them_to_no_more_than_is_claimed(noise, shares, known):
    """In exact arithmetic; both errors are of a few units in the last place."""
    plan, whole = secure_plan(shares), make_mechanism(noise, num_steps=3)
    share = Fraction(plan.share(noise))
    assert shares * share**2 >= Fraction(noise) ** 2
    assert shares * Fraction(math.nextafter(float(share), 0.0)) ** 2 < Fraction(noise) ** 2
    known %= shares
    seen = left_of(whole, plan.num_noise_shares, known)
    assert (shares - known) * share**2 >= Fraction(seen.noise_multiplier) ** 2
    assert seen.noise_multiplier == pytest.approx(noise * math.sqrt((shares - known) / shares), rel=1e-14)
    assert seen == dataclasses.replace(whole, noise_multiplier=seen.noise_multiplier)
    assert left_of(whole, shares, shares - 1) == plan.own_share(whole)


def test_no_fewer_than_none_and_no_more_than_all_but_one_can_collude():
    plan = secure_plan(3)
    for outside in (-1, 3):
        with pytest.raises(ValueError, match=rf"Expected num_colluding={outside} in \[0, 3\)"):
            left_of(plan.mechanism(1), plan.num_noise_shares, outside)


@pytest.mark.parametrize("shares", [1, 2, 3, 10])
def test_the_price_grows_with_those_who_collude_by_the_closed_form(shares):
    plan = secure_plan(shares)
    whole = plan.released(has_mean=False, num_rounds=20, has_histogram=False)
    prices = plan.epsilon_by_colluding(whole)
    assert prices[0] == epsilon(whole, plan.delta)
    expected = [
        gaussian_epsilon(20, plan.noise_multiplier * math.sqrt((shares - known) / shares), plan.delta)
        for known in range(shares)
    ]
    assert prices == pytest.approx(expected, rel=1e-6)
    assert all(price >= exact - 1e-12 for price, exact in zip(prices, expected, strict=True))
