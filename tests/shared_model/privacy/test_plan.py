"""A privacy plan keeps its promise over its rounds, and refuses what it could not keep."""

import dataclasses
import itertools
import math

import pytest

from shared_model.config.choices import PrivacyMode
from shared_model.config.site_sections import PrivacyConfig
from shared_model.errors import PrivacyError
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.plan import PrivacyPlan
from tests.privacy_examples import PRIVACY, TRAINING, make_mechanism


def test_plan_prices_the_rounds_so_far():
    plan = PrivacyPlan.calibrate(PRIVACY, TRAINING, num_patients_declared=200)
    assert plan.noise_multiplier == 2.429
    spent = [epsilon(plan.mechanism(num_rounds), plan.delta) for num_rounds in range(1, 21)]
    assert all(later > earlier for earlier, later in itertools.pairwise(spent))
    assert 7.99 < spent[-1] <= 8
    # What one round costs on its own is not what the training costs: the price must name its rounds.
    assert spent[0] < 2 < spent[-1] < 20 * spent[0]
    assert epsilon(plan.mechanism(21), plan.delta) > 8


def test_plan_counts_the_steps_of_a_round():
    training = dataclasses.replace(TRAINING, num_rounds=4, local_steps=5)
    plan = PrivacyPlan.calibrate(PRIVACY, training, num_patients_declared=200)
    assert plan.mechanism(2) == make_mechanism(2.429, num_steps=10)
    one_step_a_round = PrivacyPlan.calibrate(PRIVACY, TRAINING, num_patients_declared=200)
    assert plan.mechanism(4) == one_step_a_round.mechanism(20)


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
