"""Rows of private steps: medians, ratios and targets by hand, and that both trainings take the same steps."""

import copy
from types import SimpleNamespace

import pytest
import torch

from client.training.clipped_gradients import trainable_parameters
from client.training.gradient_methods import GradientMethod
from simulations.benchmarks import step_times
from simulations.benchmarks.step_times import (
    BATCHED,
    ONE_BY_ONE,
    measure_encoder,
    measure_heads,
    measure_large_encoder,
)


@pytest.fixture
def actions(monkeypatch):
    """Say how long each action took, without running it, and keep the actions by network."""
    kept = []

    def interleaved(named, *, num_repeats):
        kept.append(named)
        assert num_repeats == 3
        seconds = {BATCHED: [1.0, 2.0, 6.0], ONE_BY_ONE: [4.0, 4.0, 4.0]}
        return {name: seconds.get(name, [2.0, 8.0, 8.0]) for name in named}

    monkeypatch.setattr(step_times, "interleaved", interleaved)
    return kept


def test_heads_are_measured_by_every_method_that_they_allow(actions):
    rows = list(measure_heads(12, 3))
    by_network = {}
    for row in rows:
        by_network.setdefault(row.network, []).append((row.gradient_method, row.baseline))
    every = [
        (GradientMethod.GHOST, BATCHED),
        (GradientMethod.RECORD, BATCHED),
        (GradientMethod.PATIENT, BATCHED),
        (GradientMethod.PATIENT, ONE_BY_ONE),
    ]
    assert {network: set(rows) for network, rows in by_network.items()} == {
        "early head": set(every),
        "mid head": set(every),
        # One of its parameters is not a linear layer's.
        "late head": set(every),
    }


def test_times_are_medians_per_step_and_the_ratio_is_the_median_of_ratios(actions):
    row = next(iter(measure_heads(12, 3)))
    # Ten steps in one measurement.
    assert (row.baseline_seconds, row.private_seconds) == (0.2, 0.8)
    assert row.ratio == pytest.approx(0.5)


def test_a_head_has_a_target_for_the_method_that_training_chooses(actions):
    for row in measure_heads(12, 3):
        has_target = row.is_chosen and row.baseline == BATCHED
        assert row.target == (0.6 if has_target else None)
    chosen = {row.network: row.gradient_method for row in measure_heads(12, 3) if row.is_chosen}
    assert chosen == {
        "early head": GradientMethod.GHOST,
        "mid head": GradientMethod.GHOST,
        "late head": GradientMethod.GHOST,
    }


def test_an_encoder_has_a_target_for_passes_by_patient(actions):
    rows = list(measure_encoder(12, 32, 3))
    assert {row.network for row in rows} == {"small_cnn 32 px"}
    targets = {(row.gradient_method, row.baseline): row.target for row in rows}
    assert targets == {
        (GradientMethod.RECORD, BATCHED): None,
        (GradientMethod.PATIENT, BATCHED): 0.8,
        (GradientMethod.PATIENT, ONE_BY_ONE): None,
    }


def test_a_large_encoder_is_measured_by_patient_alone_and_says_how_many(actions):
    rows = list(measure_large_encoder(12, 32, 3))
    assert {(row.network, row.gradient_method) for row in rows} == {
        ("resnet18 32 px, 12 patients", GradientMethod.PATIENT)
    }
    assert {row.baseline: row.target for row in rows} == {BATCHED: 0.6, ONE_BY_ONE: None}


def test_the_plain_loop_takes_the_steps_of_batched_training(actions, monkeypatch):
    """Both baselines end with the same parameters but for rounding: what is compared is time alone."""
    trained = []

    def keep(network):
        trained.extend((network, copy.deepcopy(network)))
        return trained[-1]

    def flat(network):
        return torch.cat([parameter.detach().flatten() for parameter in trainable_parameters(network)])

    list(measure_heads(12, 3))
    monkeypatch.setattr(step_times, "copy", SimpleNamespace(deepcopy=keep))
    for named in actions:
        trained.clear()
        named[BATCHED]()
        named[ONE_BY_ONE]()
        start, batched, _, looped = map(flat, trained)
        assert (batched - looped).norm() < 1e-3 * (batched - start).norm()
