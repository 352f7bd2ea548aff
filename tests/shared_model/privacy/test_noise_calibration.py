"""Calibrated noise keeps the target, and the next smaller value does not."""

import dataclasses
import math
from collections import Counter

import pytest

from shared_model.config.composition import compose
from shared_model.privacy import noise_calibration
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.noise_calibration import calibrate_noise, evaluation_noise
from tests.privacy_examples import make_mechanism


@pytest.mark.parametrize(
    ("target", "sampling_rate", "num_steps"),
    [(8.0, 1.0, 20), (0.5, 1.0, 1), (0.01, 1.0, 20), (1000.0, 1.0, 20), (8.0, 0.1, 200), (1.0, 0.5, 20)],
)
def test_calibrated_noise_keeps_the_target_and_is_the_least_of_four_digits(target, sampling_rate, num_steps):
    found = calibrate_noise(target, delta=1e-4, sampling_rate=sampling_rate, num_steps=num_steps)
    assert float(f"{found:.3e}") == found
    assert epsilon(make_mechanism(found, sampling_rate, num_steps), 1e-4) <= target
    smaller = found - 10 ** (math.floor(math.log10(found)) - 3)
    assert epsilon(make_mechanism(smaller, sampling_rate, num_steps), 1e-4) > target


@pytest.mark.parametrize(("target", "sampling_rate", "num_steps"), [(0.5, 0.01, 10_000), (8.0, 0.1, 200)])
def test_calibration_asks_few_prices(monkeypatch, target, sampling_rate, num_steps):
    """Below sampling rate 1 a price takes up to a second, and a coarse one a tenth of that."""
    num_prices = Counter()
    for name in ("epsilon", "coarse_epsilon"):
        price = getattr(noise_calibration, name)

        def counted(mechanism, delta, name=name, price=price):
            num_prices[name] += 1
            return price(mechanism, delta)

        monkeypatch.setattr(noise_calibration, name, counted)
    calibrate_noise.__wrapped__(target, delta=1e-5, sampling_rate=sampling_rate, num_steps=num_steps)
    assert num_prices["epsilon"] <= 8
    assert num_prices["coarse_epsilon"] <= 25


def test_calibration_needs_a_target():
    with pytest.raises(ValueError, match=r"Expected target_epsilon=0.0 > 0"):
        calibrate_noise(0.0, delta=1e-4, sampling_rate=1.0, num_steps=1)


def test_noise_of_an_evaluation_is_that_of_one_release_of_all_patients():
    evaluation = dataclasses.replace(compose(["preset=smoke"]).evaluation, target_epsilon=2.0, delta=1e-4)
    noise_multiplier = evaluation_noise(evaluation)
    assert 1.99 < epsilon(make_mechanism(noise_multiplier), 1e-4) <= 2.0
