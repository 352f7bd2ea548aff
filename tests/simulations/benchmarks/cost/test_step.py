"""What a step costs, and how costs grow."""

import subprocess
import sys

import pytest

from simulations.benchmarks.cost.step import Size, exponent, measured, measured_in_turns


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_power_that_costs_follow(power):
    sizes = [3, 10, 100, 7000]
    assert exponent(sizes, [0.01 * size**power for size in sizes]) == pytest.approx(power, abs=1e-9)


@pytest.mark.parametrize(("sizes", "costs"), [([10], [1.0]), ([10, 10], [1.0, 2.0]), ([10, 100], [0.0, 1.0])])
def test_there_is_none_of_too_little(sizes, costs):
    assert exponent(sizes, costs) is None


def test_a_step_costs_what_its_action_does():
    calls = []
    found = measured(Size(part="rounds", count=7, unit="sites"), "round", lambda: calls.append(1), num_repeats=3)
    assert len(calls) == 3
    assert (found.part, found.step, found.size, found.unit) == ("rounds", "round", 7, "sites")
    assert found.processor_seconds >= 0
    assert found.elapsed_seconds > 0
    assert found.peak_bytes > 10**7


def test_steps_in_turns_are_each_done_once_more_than_counts():
    calls = []
    actions = {name: lambda name=name: calls.append(name) for name in ("plain", "private")}
    found = measured_in_turns(Size(part="training", count=7, unit="patients"), actions, num_repeats=2)
    assert calls == ["plain", "private"] * 3
    assert [(each.step, each.size) for each in found] == [("plain", 7), ("private", 7)]
    assert all(each.elapsed_seconds > 0 for each in found)


MEMORY = """
from simulations.benchmarks.cost.step import Size, measured_in_turns
held = []
actions = {"small": lambda: None, "large": lambda: held.append(b"x" * (256 << 20))}
small, large = measured_in_turns(Size(part="training", count=7, unit="patients"), actions, num_repeats=1)
print(large.peak_bytes - small.peak_bytes)
"""


def test_the_memory_of_an_action_is_not_that_of_a_later_one():
    """In a process of its own: the peak of this one may be that of a test before."""
    done = subprocess.run([sys.executable, "-P", "-c", MEMORY], capture_output=True, text=True, check=True)  # noqa: S603
    assert int(done.stdout) > 200 << 20
