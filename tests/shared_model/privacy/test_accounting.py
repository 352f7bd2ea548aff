"""Epsilon of record against closed forms, an exact divergence, published values and its own laws."""

import dataclasses
import math

import mpmath
import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

from shared_model.privacy import accounting
from shared_model.privacy.accounting import coarse_epsilon, epsilon, gaussian_mu, merge
from shared_model.privacy.cross_check import epsilon_rdp
from tests.privacy_examples import make_mechanism


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


def test_sampled_steps_are_described_once_for_a_whole_run(monkeypatch):
    """What a step's loss is like takes longer than to compose it; a ledger prices every round and at two deltas."""
    caches = (accounting._one_step, accounting._all_steps, accounting._epsilon_of_record)
    describe, described = privacy_loss_distribution.from_gaussian_mechanism, []

    def prices(*, is_forgetful):
        found = []
        for num_steps in (10, 20, 30):
            for delta in (1e-4, 1e-5):
                if is_forgetful:
                    for each in caches:
                        each.cache_clear()
                found.append(epsilon(make_mechanism(3.0, sampling_rate=0.1, num_steps=num_steps), delta))
        return found

    expected = prices(is_forgetful=True)
    for each in caches:
        each.cache_clear()
    monkeypatch.setattr(
        privacy_loss_distribution,
        "from_gaussian_mechanism",
        lambda *arguments, **options: described.append(1) or describe(*arguments, **options),
    )
    assert prices(is_forgetful=False) == expected
    assert len(described) == 1


@pytest.mark.parametrize(
    ("noise_multiplier", "num_steps", "delta"),
    [(2.429, 20, 1e-4), (1.0, 1, 1e-5), (0.3, 1, 1e-6), (30.0, 200, 1e-3), (5.0, 1000, 1e-10)],
)
def test_whole_cohort_epsilon_is_the_closed_form(noise_multiplier, num_steps, delta):
    exact = exact_gaussian_epsilon(noise_multiplier, num_steps, delta)
    assert exact <= epsilon(make_mechanism(noise_multiplier, num_steps=num_steps), delta) <= exact + 1e-8


@pytest.mark.parametrize("noise_multiplier", [0.5, 2.429, 20.0])
def test_closed_form_agrees_with_the_composed_distribution(noise_multiplier):
    composed = privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier, value_discretization_interval=1e-3
    ).self_compose(20)
    expected = composed.get_epsilon_for_delta(1e-4)
    assert epsilon(make_mechanism(noise_multiplier, num_steps=20), 1e-4) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("sampling_rate", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("noise_multiplier", [0.4, 1.0, 3.0])
def test_subsampled_epsilon_of_one_step_is_never_below_the_exact_one(noise_multiplier, sampling_rate):
    exact = exact_one_step_epsilon(noise_multiplier, sampling_rate, 1e-5)
    found = epsilon(make_mechanism(noise_multiplier, sampling_rate), 1e-5)
    assert exact * (1 - 1e-9) <= found <= exact * 1.001 + 1e-4


def test_published_values():
    # Balle & Wang 2018: the analytic Gaussian mechanism at (1, 1e-5).
    assert epsilon(make_mechanism(3.730631634816464), 1e-5) == pytest.approx(1, abs=1e-8)
    # TensorFlow Privacy's tutorial (60,000 examples, batches of 250, noise 1.3, 15 epochs) published 1.18 at 1e-5, by
    # an RDP conversion that has been improved since.
    tutorial = make_mechanism(1.3, 250 / 60_000, 3600)
    assert 0.7 < epsilon(tutorial, 1e-5) < epsilon_rdp(tutorial, 1e-5) < 1.18


def test_rate_one_is_the_limit_of_sampling():
    whole, nearly, rounded = (epsilon(make_mechanism(2.4, rate, 20), 1e-4) for rate in (1.0, 0.9999, 1 - 2**-53))
    assert rounded == whole
    assert 0.999 * whole < nearly < whole


def test_enough_noise_costs_nothing_at_this_delta():
    assert epsilon(make_mechanism(1e6), 1e-4) == 0


@settings(max_examples=15)
@given(
    noise_multiplier=st.floats(0.5, 20),
    sampling_rate=st.floats(0.05, 1),
    num_steps=st.integers(1, 50),
    factor=st.floats(1.2, 3),
)
def test_less_noise_more_patients_more_steps_and_a_smaller_delta_cost_more(
    noise_multiplier, sampling_rate, num_steps, factor
):
    base = make_mechanism(noise_multiplier, sampling_rate, num_steps)
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


@given(st.lists(st.tuples(st.sampled_from([1.5, 3.0]), st.sampled_from([0.2, 1.0]), st.integers(1, 5)), max_size=6))
def test_merging_leaves_few_parts_and_every_step(steps):
    parts = merge([make_mechanism(*step) for step in steps])
    whole, sampled = [p for p in parts if p.sampling_rate == 1], [p for p in parts if p.sampling_rate < 1]
    assert len(whole) <= 1
    assert len({(p.noise_multiplier, p.sampling_rate) for p in sampled}) == len(sampled)
    precision = sum(count / noise**2 for noise, rate, count in steps if rate == 1)
    assert sum(p.num_steps / p.noise_multiplier**2 for p in whole) == pytest.approx(precision)
    assert sum(p.num_steps for p in sampled) == sum(count for _, rate, count in steps if rate < 1)


@pytest.mark.parametrize(("noise_multiplier", "sampling_rate", "num_steps"), [(1.0, 0.1, 50), (3.0, 0.5, 20)])
def test_the_coarse_price_is_a_little_too_high(noise_multiplier, sampling_rate, num_steps):
    mechanism = make_mechanism(noise_multiplier, sampling_rate, num_steps)
    price = epsilon(mechanism, 1e-4)
    assert price < coarse_epsilon(mechanism, 1e-4) < 1.05 * price
    whole = make_mechanism(noise_multiplier, 1.0, num_steps)
    assert coarse_epsilon(whole, 1e-4) == epsilon(whole, 1e-4)


@pytest.mark.parametrize("price", [epsilon, coarse_epsilon])
@pytest.mark.parametrize("sampling_rate", [0.5, 1.0])
def test_delta_must_be_a_probability(price, sampling_rate):
    with pytest.raises(ValueError, match=r"Expected delta=1.0 in \(0, 1\)"):
        price(make_mechanism(1.0, sampling_rate), 1.0)


def delta_of_gdp(mu, epsilon):
    """Dong, Roth and Su 2022, Corollary 2.13, with 50 digits."""
    with mpmath.workdps(50):
        mu, epsilon = mpmath.mpf(mu), mpmath.mpf(epsilon)
        return float(
            mpmath.ncdf(-epsilon / mu + mu / 2) - mpmath.exp(epsilon) * mpmath.ncdf(-epsilon / mu - mu / 2),
        )


@pytest.mark.parametrize("delta", [1e-3, 1e-4, 1e-6])
@pytest.mark.parametrize(
    "parts", [[(2.429, 20)], [(9.681, 20), (31.0, 3)], [(0.7, 1)], [(3.0, 10), (4.55, 20), (80.0, 1)]]
)
def test_mu_gives_the_epsilon_of_record(parts, delta):
    mechanisms = [make_mechanism(noise_multiplier=noise, sampling_rate=1.0, num_steps=count) for noise, count in parts]
    mu = gaussian_mu(mechanisms)
    by_mu = brentq(lambda value: delta_of_gdp(mu, value) - delta, 0, 100, xtol=1e-10)
    assert by_mu == pytest.approx(epsilon(mechanisms, delta), abs=1e-6)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.integers(1, 50)), min_size=1, max_size=6))
def test_mu_is_rounded_up_from_the_sum_of_precisions(parts):
    mechanisms = [make_mechanism(noise_multiplier=noise, sampling_rate=1.0, num_steps=count) for noise, count in parts]
    with mpmath.workdps(50):
        exact = mpmath.sqrt(mpmath.fsum(count / mpmath.mpf(noise) ** 2 for noise, count in parts))
        assert exact <= gaussian_mu(mechanisms) <= exact * (1 + mpmath.mpf("1e-11"))


def test_mu_is_none_for_sampled_patients_and_0_for_nothing():
    whole = make_mechanism(noise_multiplier=2.0, sampling_rate=1.0, num_steps=4)
    sampled = make_mechanism(noise_multiplier=2.0, sampling_rate=0.5, num_steps=4)
    assert gaussian_mu(whole) == pytest.approx(1.0)
    assert gaussian_mu(sampled) is None
    assert gaussian_mu([whole, sampled]) is None
    assert gaussian_mu([]) == 0.0


ODD_MIXTURES = {
    "one of very strong noise": [(0.7, 0.5, 1), (1e6, 1e-3, 1)],
    "next to no sampling": [(2.4, 0.5, 20), (1e9, 1e-9, 100), (2.4, 1.0, 20)],
    "next to no noise": [(1e-2, 0.5, 3), (1e3, 0.5, 3)],
    "very many steps": [(5.0, 0.1, 10**12), (5.0, 0.1, 1)],
}


@pytest.mark.parametrize("steps", ODD_MIXTURES.values(), ids=ODD_MIXTURES)
def test_steps_of_very_different_noise_have_a_grid_of_bounded_size(steps, monkeypatch):
    """Earlier: the finest grid of all, 10^12 points for the first of these, so that all later prices took for ever."""
    asked, make = [], privacy_loss_distribution.from_gaussian_mechanism

    def recorded(noise_multiplier, *, value_discretization_interval, sampling_prob, **_):
        largest = 10 / noise_multiplier + 0.5 / noise_multiplier**2
        loss = math.log1p(sampling_prob * math.expm1(largest)) if largest < 700 else largest
        asked.append(loss / value_discretization_interval)
        return make(2.0, value_discretization_interval=0.1, sampling_prob=0.5)

    monkeypatch.setattr(privacy_loss_distribution, "from_gaussian_mechanism", recorded)
    monkeypatch.setattr(privacy_loss_distribution.PrivacyLossDistribution, "self_compose", lambda self, _: self)
    accounting._epsilon_of_record.cache_clear()
    epsilon([make_mechanism(*step) for step in steps], 1e-4)
    accounting._epsilon_of_record.cache_clear()
    assert 1 <= len(asked) <= len(steps)
    assert max(asked) <= 2**20


@pytest.mark.parametrize("steps", [[(0.7, 0.5, 1), (20.0, 0.05, 5)], [(1.0, 0.1, 30), (4.0, 0.3, 10), (6.0, 1.0, 4)]])
@pytest.mark.parametrize("num_points", [2**6, 2**10, 2**19])
def test_a_coarser_grid_never_costs_less_than_the_truth(steps, num_points, monkeypatch):
    parts = [
        privacy_loss_distribution.from_gaussian_mechanism(
            noise, pessimistic_estimate=False, value_discretization_interval=2e-4, sampling_prob=rate
        ).self_compose(count)
        for noise, rate, count in steps
    ]
    composed = parts[0]
    for part in parts[1:]:
        composed = composed.compose(part)
    monkeypatch.setattr(accounting, "_MAX_POINTS", num_points)
    accounting._epsilon_of_record.cache_clear()
    found = epsilon([make_mechanism(*step) for step in steps], 1e-5)
    accounting._epsilon_of_record.cache_clear()
    whole = epsilon([make_mechanism(noise, 1.0, count) for noise, _, count in steps], 1e-5)
    assert composed.get_epsilon_for_delta(1e-5) <= found <= whole
    if num_points == 2**19:
        assert found <= 1.005 * composed.get_epsilon_for_delta(1e-5)


def test_many_kinds_of_sampled_steps_are_priced_at_once_and_not_below_the_truth():
    """Earlier: every kind took a composition of its own, at each later request."""
    few, many = ([make_mechanism(5 + number / 100, 0.5) for number in range(count)] for count in (16, 400))
    assert epsilon(few, 1e-4) < epsilon([dataclasses.replace(part, sampling_rate=1.0) for part in few], 1e-4)
    assert epsilon(many, 1e-4) == epsilon([dataclasses.replace(part, sampling_rate=1.0) for part in many], 1e-4)
