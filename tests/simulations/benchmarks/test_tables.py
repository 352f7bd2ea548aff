"""The tables of the benchmarks, and the figures as JSON."""

import json
from io import StringIO

import pytest
from rich.console import Console

from client.training.gradient_methods import GradientMethod
from simulations.benchmarks.ledger_times import LedgerTimes
from simulations.benchmarks.many_sites import RoundCost
from simulations.benchmarks.plan_times import PlanTimes
from simulations.benchmarks.private_steps import PrivacyBenchmark
from simulations.benchmarks.step_times import Throughput
from simulations.benchmarks.table_costs import CHECKS, READ, TableCost
from simulations.benchmarks.tables import print_privacy, print_scale, print_table_costs, write_figures


def printed(show, *arguments):
    """Return the cells of every line that a table has."""
    console = Console(file=StringIO(), width=200)
    show(*arguments, console)
    text = console.file.getvalue()
    return text, [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]


def throughput(**changes):
    values = {
        "network": "early head",
        "gradient_method": GradientMethod.GHOST,
        "is_chosen": True,
        "baseline": "batched",
        "baseline_seconds": 0.0012,
        "private_seconds": 0.0024,
        "ratio": 0.5,
        "target": 0.4,
    }
    return Throughput(**(values | changes))


def benchmark(**changes):
    plan = {"sampling_rate": 1.0, "num_steps": 20, "noise_multiplier": 2.5, "target_seconds": 5.0}
    values = {
        "num_patients": 250,
        "num_lesions": 480,
        "image_size": 128,
        "num_repeats": 5,
        "num_threads": 1,
        "torch_version": "2.13.0",
        "throughput": (throughput(),),
        "calibration": (PlanTimes(calibrate_seconds=0.25, cross_check_seconds=1.5, **plan),),
        "ledger": (
            LedgerTimes(num_earlier_releases=400, round_seconds=0.0121, open_seconds=0.0502, target_seconds=0.02),
        ),
    }
    return PrivacyBenchmark(**(values | changes))


def test_privacy_tables_cell_by_cell():
    text, lines = printed(print_privacy, benchmark())
    assert lines[0] == ["early head", "ghost*", "batched", "1.2", "2.4", "0.50", ">= 0.4"]
    assert lines[1] == ["1", "20", "2.5", "0.25", "< 5", "1.50"]
    assert lines[2] == ["400", "12.1", "< 20", "50.2"]
    assert "Whole-cohort steps: 250 patients, 480 lesions" in text
    assert "Medians of 5 interleaved repeats, 1 threads, torch 2.13.0." in text


def test_missed_targets_are_named():
    slow = PlanTimes(
        sampling_rate=0.1,
        num_steps=200,
        noise_multiplier=2.5,
        calibrate_seconds=5.5,
        cross_check_seconds=1.0,
        target_seconds=5.0,
    )
    late = LedgerTimes(num_earlier_releases=0, round_seconds=0.021, open_seconds=0.001, target_seconds=0.02)
    rows = (throughput(ratio=0.3), throughput(is_chosen=False, target=None))
    _, lines = printed(print_privacy, benchmark(throughput=rows, calibration=(slow,), ledger=(late,)))
    assert lines[0][-1] == ">= 0.4, missed"
    assert lines[1][1:2] + lines[1][-1:] == ["ghost", "-"]
    assert lines[2][4] == "< 5, missed"
    assert lines[3][2] == "< 20, missed"


@pytest.mark.parametrize(
    ("network", "seconds", "target"), [("head", 0.04, "< 5"), ("head", 0.06, "< 5, missed"), ("45 MB", 9.0, "-")]
)
def test_scale_table(network, seconds, target):
    cost = RoundCost(network=network, num_sites=10, num_bytes=1000, round_seconds=seconds, peak_bytes=3 * 2**20)
    _, lines = printed(print_scale, [cost])
    assert lines == [[network, "10", f"{seconds:.3f}", f"{100 * seconds:.2f}", target, "3.0"]]


def test_figures_are_written_as_json(tmp_path):
    write_figures(tmp_path / "folder" / "figures.json", [{"network": "head", "seconds": 0.5}])
    assert json.loads((tmp_path / "folder" / "figures.json").read_text()) == [{"network": "head", "seconds": 0.5}]


def test_growth_is_from_the_line_above_of_the_same_step():
    def cost(step, num_rows, seconds, table_bytes):
        return TableCost(
            step=step,
            num_rows=num_rows,
            num_images=num_rows // 10,
            elapsed_seconds=2 * seconds,
            processor_seconds=seconds,
            peak_bytes=2**30 + table_bytes,
            table_bytes=table_bytes,
        )

    def show(rows, console):
        print_table_costs(rows, console, load=1.25)

    rows = [
        cost(READ, 1000, 0.5, 2**20),
        cost(CHECKS, 1000, 1, 2**20),
        cost(READ, 10_000, 5, 2**20),
        cost(CHECKS, 10_000, 100, 10 * 2**20),
    ]
    text, cells = printed(show, rows)
    assert cells == [
        ["read", "1,000", "100", "1.0", "0.5", "-", "1.00", "-"],
        ["read", "10,000", "1,000", "10.0", "5.0", "1.00", "1.00", "0.00"],
        ["checks", "1,000", "100", "2.0", "1.0", "-", "1.00", "-"],
        ["checks", "10,000", "1,000", "200.0", "100.0", "2.00", "1.01", "1.00"],
    ]
    assert "on which 1.2 processes" in text
