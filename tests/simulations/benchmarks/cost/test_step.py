"""How costs grow, and their table."""

import pytest

from simulations.benchmarks.cost.step import Size, Step, exponent, measured, to_markdown


def step(size, seconds, *, name="round"):
    return Step(
        part="rounds",
        step=name,
        size=size,
        unit="sites",
        processor_seconds=seconds,
        elapsed_seconds=2 * seconds,
        peak_bytes=3 * 2**20,
    )


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


def test_the_table_has_a_line_for_each_step_and_its_growth_once():
    text = to_markdown([step(10, 1.0), step(10, 0.5, name="first round"), step(1000, 100.0)])
    assert text.splitlines() == [
        "| part | step | size | processor [s] | elapsed [s] | peak memory [MiB] | growth |",
        "|---|---|---:|---:|---:|---:|---:|",
        "| rounds | round | 10 sites | 1.000 | 2.000 | 3 |  |",
        "| rounds | round | 1,000 sites | 100.000 | 200.000 | 3 | 1.00 |",
        "| rounds | first round | 10 sites | 0.500 | 1.000 | 3 |  |",
    ]
