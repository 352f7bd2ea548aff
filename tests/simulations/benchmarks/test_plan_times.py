"""What is timed when a plan is made: the plan of the preset, and one of many Poisson samples."""

import pytest

from shared_model.privacy import accounting, cross_check, noise_calibration
from simulations.benchmarks import plan_times
from simulations.benchmarks.plan_times import measure_plans


@pytest.fixture
def timed(monkeypatch):
    """Run every action once, untimed, and say how long each took: seconds of the test's choice."""
    made = []

    def interleaved(actions, *, num_repeats, before_each):
        for name, action in actions.items():
            before_each()
            caches = [
                value.cache_info().currsize
                for module in (accounting, cross_check, noise_calibration)
                for value in vars(module).values()
                if hasattr(value, "cache_info")
            ]
            made.append((name, action(), sum(caches)))
        return {"calibrate": [1.0, 9.0, 2.0], "cross-check": [0.5] * num_repeats}

    monkeypatch.setattr(plan_times, "interleaved", interleaved)
    return made


def test_both_plans_are_measured_with_empty_caches(timed):
    whole, sampled = measure_plans(250, 3)
    assert (whole.sampling_rate, whole.num_steps) == (1.0, 20)
    assert (sampled.sampling_rate, sampled.num_steps) == (0.1, 200)
    assert [name for name, _, _ in timed] == ["calibrate", "cross-check"] * 2
    assert [num_cached for _, _, num_cached in timed] == [0] * 4
    # What was timed is the plan that is reported; its check would have raised had the accountants disagreed.
    assert [timed[place][1].noise_multiplier for place in (0, 2)] == [whole.noise_multiplier, sampled.noise_multiplier]


def test_times_are_medians(timed):
    whole, _ = measure_plans(250, 3)
    assert (whole.calibrate_seconds, whole.cross_check_seconds, whole.target_seconds) == (2.0, 0.5, 5.0)
