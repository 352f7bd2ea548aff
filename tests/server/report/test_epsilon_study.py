"""A study over epsilon: its file, its means, and its plot."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.report.epsilon_study import (
    EPSILON_STUDY_FILE,
    EpsilonPoint,
    EpsilonStudy,
    describe_epsilon_study,
    draw_epsilon_study,
    read_epsilon_study,
    write_epsilon_study,
)
from server.results.estimate import Estimate
from shared_model.metrics.intervals import ConfidenceInterval


def point(epsilon, value, seed=0):
    auroc = Estimate(name="auroc", value=value, interval=ConfidenceInterval(low=value - 0.05, high=value + 0.05))
    return EpsilonPoint(seed=seed, epsilon=epsilon, auroc=auroc)


STUDY = EpsilonStudy(points=(point(None, 0.86), point(4.0, 0.8), point(4.0, 0.82, seed=1), point(1.0, 0.7)))


def test_written_and_read_back(tmp_path):
    assert read_epsilon_study(tmp_path) is None
    write_epsilon_study(STUDY, tmp_path)
    assert read_epsilon_study(tmp_path) == STUDY


def test_the_first_files_are_read_and_written_alike(tmp_path):
    """The file is of the code before bounds stood in annotations."""
    first = Path(__file__).with_name("first_sweep.json").read_bytes()
    (tmp_path / EPSILON_STUDY_FILE).write_bytes(first)
    assert read_epsilon_study(tmp_path) == STUDY
    write_epsilon_study(STUDY, tmp_path)
    assert (tmp_path / EPSILON_STUDY_FILE).read_bytes() == first


def test_means_are_over_the_seeds_of_one_promise():
    assert STUDY.epsilons == [1.0, 4.0]
    assert STUDY.mean_auroc(4.0) == pytest.approx(0.81)
    assert STUDY.mean_auroc(None) == 0.86
    assert STUDY.mean_auroc(2.0) is None
    assert describe_epsilon_study(STUDY).endswith("0.700 at epsilon 1, 0.810 at epsilon 4, 0.860 at no privacy.")


def test_drawn_at_every_promise_with_every_interval():
    (axes,) = draw_epsilon_study(STUDY).axes
    (means,) = [line for line in axes.lines if line.get_label().startswith("private")]
    assert means.get_xdata().tolist() == [1, 4]
    assert means.get_ydata() == pytest.approx([0.7, 0.81])
    assert len(axes.collections) == 3


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_level_without_privacy_is_a_line_across():
    (axes,) = draw_epsilon_study(STUDY).axes
    (level,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert set(level.get_ydata()) == {0.86}
    assert "no privacy: 0.860" in legend_of(axes)


def test_without_a_run_without_privacy_there_is_no_such_line():
    private = EpsilonStudy(points=tuple(each for each in STUDY.points if each.epsilon is not None))
    (axes,) = draw_epsilon_study(private).axes
    assert legend_of(axes) == ["private, mean over seeds"]
    assert "no privacy" not in describe_epsilon_study(private)


def test_epsilons_stand_on_a_doubling_scale_under_their_own_numbers():
    (axes,) = draw_epsilon_study(STUDY).axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4"]
    assert axes.get_xlabel() == "epsilon promised to every patient"


def test_an_interval_is_drawn_from_end_to_end():
    (axes,) = draw_epsilon_study(EpsilonStudy(points=(point(2.0, 0.75),))).axes
    (interval,) = axes.collections
    ((low, high),) = interval.get_segments()
    assert (low.tolist(), high.tolist()) == ([2.0, 0.7], [2.0, 0.8])


def test_a_run_without_an_interval_has_its_point_alone():
    auroc = Estimate(name="auroc", value=0.75, interval=None)
    (axes,) = draw_epsilon_study(EpsilonStudy(points=(EpsilonPoint(seed=0, epsilon=2.0, auroc=auroc),))).axes
    assert len(axes.collections) == 0
    assert axes.lines[0].get_ydata().tolist() == [0.75]


@given(st.lists(st.tuples(st.sampled_from([None, 0.5, 1.0, 8.0]), st.floats(0.1, 0.9)), max_size=12))
def test_means_are_those_of_a_loop_in_any_order(runs):
    study = EpsilonStudy(points=tuple(point(epsilon, value, seed) for seed, (epsilon, value) in enumerate(runs)))
    shuffled = EpsilonStudy(points=study.points[::-1])
    assert study.epsilons == shuffled.epsilons == sorted({epsilon for epsilon, _ in runs if epsilon is not None})
    for epsilon in (None, 0.5, 1.0, 8.0):
        values = [value for other, value in runs if other == epsilon]
        expected = sum(values) / len(values) if values else None
        assert study.mean_auroc(epsilon) == (None if expected is None else pytest.approx(expected))
        assert shuffled.mean_auroc(epsilon) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("change", [{"epsilon": -1}, {"auroc": {"name": "auroc", "value": None, "interval": None}}])
def test_a_file_with_other_content_is_refused(tmp_path, change):
    write_epsilon_study(STUDY, tmp_path)
    values = json.loads((tmp_path / EPSILON_STUDY_FILE).read_text())
    values["points"][0] |= change
    (tmp_path / EPSILON_STUDY_FILE).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"Expected sweep\.json\.points\[0\]\.(epsilon=-1 >= 0|auroc=.* with a value)"):
        read_epsilon_study(tmp_path)
