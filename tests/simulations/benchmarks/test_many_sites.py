"""Rounds of many sites without training: every site's update takes part."""

import numpy as np
import pytest
from flwr.supercore.task_identity import TaskIdentity
from matplotlib.image import imread

from simulations.benchmarks import many_sites
from simulations.benchmarks.many_sites import HEAD, RoundCost, measure_scale, write_scale


@pytest.fixture(autouse=True)
def task_identity(monkeypatch):
    """The grid sets the identity of this process; give it back afterwards."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, None)


@pytest.fixture
def aggregated(monkeypatch):
    """Keep what every round aggregated."""
    results, real = [], many_sites.new_aggregator

    def make(request, agreements):
        aggregator = real(request, agreements)
        finish = aggregator.result
        monkeypatch.setattr(aggregator, "result", lambda: results.append(finish().update), raising=False)
        return aggregator

    monkeypatch.setattr(many_sites, "new_aggregator", make)
    return results


def test_every_round_aggregates_the_updates_of_all_sites(aggregated, monkeypatch):
    progress = []
    (cost,) = measure_scale([4], num_repeats=2, with_large=False, progress=progress.append)
    assert progress == ["4 sites"]
    # One to warm up, two that are timed, one whose memory is traced.
    assert len(aggregated) == 4
    for result in aggregated:
        # Sites that send the parameters back as their update have these as their mean.
        assert sum(array.nbytes for array in result.values()) == cost.num_bytes
        assert all(np.array_equal(array, aggregated[0][name]) for name, array in result.items())
    assert (cost.network, cost.num_sites) == (HEAD, 4)
    assert cost.peak_bytes > cost.num_bytes


def test_the_large_network_is_measured_with_few_sites(monkeypatch):
    monkeypatch.setattr(many_sites, "_LARGE_ENTRIES", 1000)
    monkeypatch.setattr(many_sites, "_LARGE_SITES", (2, 3))
    costs = list(measure_scale([2], num_repeats=1, with_large=True, progress=lambda _: None))
    assert [(cost.network, cost.num_sites) for cost in costs] == [("head", 2), ("45 MB", 2), ("45 MB", 3)]
    assert costs[1].num_bytes == 11 * 1000 * 4


@pytest.mark.parametrize(
    ("network", "seconds", "meets"), [(HEAD, 0.049, True), (HEAD, 0.051, False), ("45 MB", 100.0, True)]
)
def test_targets(network, seconds, meets):
    cost = RoundCost(network=network, num_sites=10, num_bytes=1, round_seconds=seconds, peak_bytes=1)
    assert cost.seconds_per_site == pytest.approx(seconds / 10)
    assert cost.meets_target is meets


def test_the_plot_is_of_the_default_network(tmp_path):
    costs = [
        RoundCost(network=network, num_sites=count, num_bytes=1, round_seconds=0.01 * count, peak_bytes=2**20)
        for network, count in ((HEAD, 10), (HEAD, 100), ("45 MB", 3))
    ]
    write_scale(tmp_path / "scale.png", costs)
    assert imread(tmp_path / "scale.png").shape[0] > 300
    with pytest.raises(ValueError, match=r"\.png"):
        write_scale(tmp_path / "scale.jpg", costs)
