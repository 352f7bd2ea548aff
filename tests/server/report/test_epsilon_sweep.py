"""The sweep over epsilon: its file, its means, and its place in the report."""

import json

import pytest

from server.report.epsilon_sweep import (
    SWEEP_FILE,
    Sweep,
    SweepPoint,
    draw_sweep,
    read_sweep,
    sweep_in_words,
    write_sweep,
)
from server.results.evidence import Figure
from shared_model.metrics.counts import Interval


def point(epsilon, value, seed=0):
    figure = Figure(name="auroc", value=value, interval=Interval(low=value - 0.05, high=value + 0.05))
    return SweepPoint(seed=seed, epsilon=epsilon, auroc=figure)


SWEEP = Sweep(points=(point(None, 0.86), point(4.0, 0.8), point(4.0, 0.82, seed=1), point(1.0, 0.7)))


def test_written_and_read_back(tmp_path):
    assert read_sweep(tmp_path) is None
    write_sweep(SWEEP, tmp_path)
    assert read_sweep(tmp_path) == SWEEP


def test_means_are_over_the_seeds_of_one_promise():
    assert SWEEP.epsilons == [1.0, 4.0]
    assert SWEEP.mean_auroc(4.0) == pytest.approx(0.81)
    assert SWEEP.mean_auroc(None) == 0.86
    assert SWEEP.mean_auroc(2.0) is None
    assert sweep_in_words(SWEEP).endswith("0.700 at epsilon 1, 0.810 at epsilon 4, 0.860 at no privacy.")


def test_drawn_at_every_promise_with_every_interval():
    (axes,) = draw_sweep(SWEEP).axes
    (means,) = [line for line in axes.lines if line.get_label().startswith("private")]
    assert means.get_xdata().tolist() == [1, 4]
    assert means.get_ydata() == pytest.approx([0.7, 0.81])
    assert len(axes.collections) == 3


@pytest.mark.parametrize("change", [{"epsilon": -1}, {"auroc": {"name": "auroc", "value": None, "interval": None}}])
def test_a_file_that_is_no_sweep_is_refused(tmp_path, change):
    write_sweep(SWEEP, tmp_path)
    values = json.loads((tmp_path / SWEEP_FILE).read_text())
    values["points"][0] |= change
    (tmp_path / SWEEP_FILE).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"Expected SweepPoint\."):
        read_sweep(tmp_path)
