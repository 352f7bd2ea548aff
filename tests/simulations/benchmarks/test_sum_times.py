"""The cost of secure sums: every size is measured, and the sum comes out."""

from rich.console import Console

from simulations.benchmarks.sum_times import NUM_SITES, NUM_VALUES, SumCost, measure_sums
from simulations.benchmarks.tables import print_sums


def test_every_size_is_measured():
    told = []
    rows = measure_sums([(3, 7), (5, 1000)], num_repeats=2, progress=told.append)
    assert [(row.num_sites, row.num_values) for row in rows] == [(3, 7), (5, 1000)]
    assert all(row.site_seconds > 0 and row.meets_target is None for row in rows)
    assert told == ["secure sum of 3 sites, 7 values", "secure sum of 5 sites, 1000 values"]


def test_a_missed_target_is_said():
    console = Console(width=100, record=True)
    rows = [
        SumCost(num_sites=NUM_SITES, num_values=NUM_VALUES, site_seconds=seconds, server_seconds=1.0)
        for seconds in (0.01, 0.06)
    ]
    print_sums(rows, console)
    text = console.export_text()
    assert text.count("< 50") == 2
    assert text.count("missed") == 1


def test_a_table_says_its_units():
    console = Console(width=120, record=True)
    print_sums([SumCost(num_sites=3, num_values=7, site_seconds=0.01, server_seconds=1.0)], console)
    text = console.export_text()
    assert "a site [ms]" in text
    assert "server [ms]" in text
