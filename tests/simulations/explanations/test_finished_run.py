"""A finished run: which lesions are explained, what their calls were worth, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from server.evaluation.predictions import Predictions
from server.report.run_folder import CONFIG_FILE
from shared_model.errors import ConfigError
from simulations.explanations.finished_run import FinishedRun, RandomisedNetwork


def run_with(labels, scores, *, threshold=0.5, seed=0, **changes):
    """Return a run of which only the predictions matter."""
    count = len(labels)
    predictions = Predictions(
        labels=np.array(labels), scores=np.array(scores, dtype=float), patients=np.arange(count), attributes={}
    )
    values = {
        "folder": None,
        "config": SimpleNamespace(seed=seed),
        "network": None,
        "predictions": predictions,
        "threshold": threshold,
        "frame": None,
        "clinical": torch.zeros(count, 1),
        "other_views": (None,) * count,
    }
    return FinishedRun(**(values | changes))


@pytest.mark.parametrize(
    ("label", "score", "outcome"),
    [
        (1, 0.5, "found cancer"),
        (1, 0.49, "missed cancer"),
        (0, 0.5, "false alarm"),
        (0, 0.1, "benign, as called"),
    ],
)
def test_outcomes(label, score, outcome):
    assert run_with([label], [score]).outcome(0) == outcome


def test_worst_errors_and_surest_finds_come_first():
    labels = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    scores = [0.1, 0.4, 0.6, 0.8, 0.9, 0.2, 0.3, 0.55, 0.7, 0.95]
    # A quarter of eight each: misses from the lowest score, alarms and finds from the highest.
    assert run_with(labels, scores).select_rows(8)[:6] == [0, 1, 9, 8, 4, 3]


@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
    st.integers(4, 40),
    st.integers(0, 3),
)
def test_rows_are_different_and_as_many_as_asked_for(lesions, count, seed):
    run = run_with([label for label, _ in lesions], [score for _, score in lesions], seed=seed)
    rows = run.select_rows(count)
    assert len(rows) == len(set(rows)) == min(count, len(lesions))
    assert set(rows) <= set(range(len(lesions)))
    assert run.select_rows(count) == rows


def test_the_rest_depends_on_the_seed():
    labels, scores = [0] * 40, np.linspace(0, 0.4, 40)
    assert run_with(labels, scores, seed=0).select_rows(16) != run_with(labels, scores, seed=1).select_rows(16)


def test_randomising_leaves_the_run_as_it_was():
    network = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 1))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    config = SimpleNamespace(seed=0, model=SimpleNamespace(backbone=SimpleNamespace(is_frozen=False)))
    run = run_with([0, 1], [0.1, 0.9], network=network, config=config)
    first, again, other = (RandomisedNetwork.from_run(run, seed=seed) for seed in (1, 1, 2))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(first.network.state_dict()[name], again.network.state_dict()[name])
    assert first.frozen_encoder is None
    weights = [one.network.state_dict()["0.weight"] for one in (first, other)]
    assert not torch.equal(weights[0], before["0.weight"])
    assert not torch.equal(*weights)


class TestRefuses:
    def test_a_folder_without_a_run(self, tmp_path):
        with pytest.raises(ConfigError, match=f"Expected a finished run in {tmp_path}"):
            FinishedRun.open(tmp_path)

    @pytest.mark.parametrize("content", ["[", "seed: 1", "- a"])
    def test_a_folder_with_another_configuration(self, tmp_path, content):
        (tmp_path / CONFIG_FILE).write_text(content)
        with pytest.raises(ConfigError, match=r"Expected a finished run|In the configuration"):
            FinishedRun.open(tmp_path)
