"""Measured steps as a table, CSV, JSON and figure."""

import csv
import json

import cv2
import pytest

from simulations.benchmarks.cost.document import to_markdown, write_steps
from simulations.benchmarks.cost.step import Step


def step(size, seconds, *, name="round", part="rounds", **more):
    return Step(
        part=part,
        step=name,
        size=size,
        unit="sites",
        processor_seconds=seconds,
        elapsed_seconds=2 * seconds,
        peak_bytes=3 * 2**20,
        **more,
    )


STEPS = [
    step(10, 1.0),
    step(10, 0.5, name="first round"),
    step(1000, 100.0),
    step(3, 0.0, name="waiting, a site", part="deployed", num_messages=4, num_bytes=2048),
]


def test_the_table_has_a_row_for_each_kind_of_step_with_a_value_for_each_size():
    assert to_markdown(STEPS).splitlines() == [
        "| step | size | processor [s] | elapsed [s] | peak memory [MiB] | messages | moved [KiB] | growth |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        "| rounds: round | 10 / 1,000 sites | 1.000 / 100.000 | 2.000 / 200.000 | 3 / 3 |  |  | 1.00 |",
        "| rounds: first round | 10 sites | 0.500 | 1.000 | 3 |  |  |  |",
        "| deployed: waiting, a site | 3 sites | 0.000 | 0.000 | 3 | 4 | 2.0 |  |",
    ]


def test_files_hold_every_step(tmp_path):
    for suffix in ("json", "csv", "md"):
        write_steps(tmp_path / f"cost.{suffix}", STEPS)
    figures = json.loads((tmp_path / "cost.json").read_text())
    assert [Step(**each) for each in figures] == STEPS
    with (tmp_path / "cost.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: "" if value is None else str(value) for name, value in each.items()} for each in figures] == rows
    assert (tmp_path / "cost.md").read_text() == to_markdown(STEPS)


@pytest.mark.parametrize("num_parts", [1, 2, 3, 4])
def test_the_figure_shows_each_part_beside_the_others(tmp_path, num_parts):
    parts = [step(size, size / 7, part=f"part {number}") for number in range(num_parts) for size in (10, 100)]
    write_steps(tmp_path / "cost.png", parts)
    height, width, _ = cv2.imread(str(tmp_path / "cost.png")).shape
    columns, rows = min(3, num_parts), -(-num_parts // 3)
    assert width / height == pytest.approx(3.2 * columns / (3.4 * rows), rel=0.01)


def test_what_takes_no_time_can_be_drawn(tmp_path):
    write_steps(tmp_path / "cost.png", STEPS[3:])
    assert (tmp_path / "cost.png").stat().st_size > 1000


def test_nothing_is_not_drawn(tmp_path):
    with pytest.raises(ValueError, match="at least one step"):
        write_steps(tmp_path / "cost.png", [])
