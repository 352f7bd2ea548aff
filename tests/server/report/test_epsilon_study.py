"""A study over epsilon: its file, its means, and its plot."""

import json
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("change", [{"epsilon": -1}, {"auroc": {"name": "auroc", "value": None, "interval": None}}])
def test_a_file_with_other_content_is_refused(tmp_path, change):
    write_epsilon_study(STUDY, tmp_path)
    values = json.loads((tmp_path / EPSILON_STUDY_FILE).read_text())
    values["points"][0] |= change
    (tmp_path / EPSILON_STUDY_FILE).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"Expected sweep\.json\.points\[0\]\.(epsilon=-1 >= 0|auroc=.* with a value)"):
        read_epsilon_study(tmp_path)
