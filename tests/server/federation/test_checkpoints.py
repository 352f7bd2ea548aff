"""A checkpoint comes back bit for bit, belongs to one run, and is whole or not there."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from server.federation.agreement import Agreement
from server.federation.checkpoints import (
    CHECKPOINT_FILE,
    Checkpoint,
    SiteState,
    Underway,
    read_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from server.federation.server_optimizer import ServerState
from server.federation.witnesses import Link
from server.results.document import RoundResult
from shared_model.config.composition import compose
from shared_model.errors import ConfigError
from shared_model.messages import PrivacySpent
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.privacy.patient_histogram import PatientHistogram

CONFIG = compose(["preset=smoke"])
SPENT = PrivacySpent(epsilon=1 / 3, delta=1e-4, noise_multiplier=2.431)
ROUND = RoundResult(
    round=1,
    auroc=0.1 + 0.2,
    sensitivity=None,
    specificity=0.5,
    threshold=None,
    epsilon=None,
    num_sites=2,
    failures=1,
    warnings=(),
    outliers=(),
    seconds=0.25,
)


def parameters(seed):
    rng = np.random.default_rng(seed)
    return {
        "head.weight": rng.normal(size=(2, 3)).astype(np.float32),
        "head.bias": rng.normal(size=()).astype(np.float32),
    }


@pytest.fixture
def checkpoint():
    return Checkpoint(
        state=ServerState(
            parameters=parameters(0),
            first_moment=parameters(1),
            second_moment=parameters(2),
            average=parameters(3),
            num_averaged=4,
        ),
        constants={"image_standardisation.mean": np.arange(3, dtype=np.float32)},
        rounds=(ROUND, dataclasses.replace(ROUND, round=2)),
        sites={
            "exact": SiteState(
                num_patients_declared=10,
                privacy=None,
                test=ScoreHistogram(negatives=np.array([1, 2]), positives=np.array([3, 4])),
            ),
            "noisy": SiteState(
                num_patients_declared=20,
                privacy=SPENT,
                test=PatientHistogram(negatives=np.array([0.1, -2.0]), positives=np.array([1e-9, 4.0]), noise_std=1.5),
            ),
            "silent": SiteState(
                num_patients_declared=30, privacy=SPENT, test=None, agreement=Agreement(total=-1 / 3, variance=0.1)
            ),
        },
        witnesses={"noisy": (Link(witness="a1", previous=""), Link(witness="b2", previous="a1"))},
        underway=Underway(
            warnings=("w",),
            failures=("f", "f"),
            reasons={"noisy": "f"},
            num_sites=2,
            is_final=True,
            threshold=0.1 + 0.2,
        ),
    )


def as_plain(value):
    if dataclasses.is_dataclass(value):
        return {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: as_plain(entry) for name, entry in value.items()}
    return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray | np.generic) else value


def test_what_is_read_is_what_was_written_to_the_last_bit(checkpoint, tmp_path):
    write_checkpoint(tmp_path, checkpoint, CONFIG)
    found = read_checkpoint(tmp_path, CONFIG)
    assert as_plain(found) == as_plain(checkpoint)
    assert list(found.state.parameters) == list(checkpoint.state.parameters)
    assert {name: type(site.test) for name, site in found.sites.items()} == {
        name: type(site.test) for name, site in checkpoint.sites.items()
    }


def test_none_before_the_first_round_and_after_the_end(checkpoint, tmp_path):
    assert read_checkpoint(tmp_path, CONFIG) is None
    write_checkpoint(tmp_path, checkpoint, CONFIG)
    remove_checkpoint(tmp_path)
    remove_checkpoint(tmp_path)
    assert read_checkpoint(tmp_path, CONFIG) is None


def test_of_another_configuration(checkpoint, tmp_path):
    write_checkpoint(tmp_path, checkpoint, CONFIG)
    with pytest.raises(ConfigError, match="run of the same configuration; name another folder"):
        read_checkpoint(tmp_path, compose(["preset=smoke", "seed=1"]))


def test_of_other_source_code(checkpoint, tmp_path, monkeypatch):
    write_checkpoint(tmp_path, checkpoint, CONFIG)
    monkeypatch.setattr("server.federation.checkpoints.source_fingerprint", lambda: "0" * 64)
    with pytest.raises(ConfigError, match="run of the same source code"):
        read_checkpoint(tmp_path, CONFIG)


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-1], lambda content: b"x" * 100])
def test_damaged(checkpoint, tmp_path, damage):
    write_checkpoint(tmp_path, checkpoint, CONFIG)
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match="Expected a checkpoint in"):
        read_checkpoint(tmp_path, CONFIG)


def test_a_write_that_is_interrupted_leaves_the_last_one(checkpoint, tmp_path, monkeypatch):
    write_checkpoint(tmp_path, checkpoint, CONFIG)
    before = as_plain(read_checkpoint(tmp_path, CONFIG))

    def fail(source, target):
        raise KeyboardInterrupt("power cut")

    later = dataclasses.replace(checkpoint, rounds=(*checkpoint.rounds, dataclasses.replace(ROUND, round=3)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        patch.setattr(Path, "replace", fail)
        with pytest.raises(KeyboardInterrupt, match="power cut"):
            write_checkpoint(tmp_path, later, CONFIG)
    assert as_plain(read_checkpoint(tmp_path, CONFIG)) == before


def test_a_later_round_replaces_an_earlier_one(checkpoint, tmp_path):
    write_checkpoint(tmp_path, checkpoint, CONFIG)
    later = dataclasses.replace(checkpoint, rounds=(*checkpoint.rounds, dataclasses.replace(ROUND, round=3)), sites={})
    write_checkpoint(tmp_path, later, CONFIG)
    assert as_plain(read_checkpoint(tmp_path, CONFIG)) == as_plain(later)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_the_order_of_the_network_s_parameters_survives(checkpoint, tmp_path):
    # A safetensors file sorts its arrays by name.
    names = ["z.weight", "a.bias", "m"]
    ordered = {name: np.full(2, number, dtype=np.float32) for number, name in enumerate(names)}
    state = ServerState.from_parameters(ordered)
    write_checkpoint(tmp_path, dataclasses.replace(checkpoint, state=state), CONFIG)
    found = read_checkpoint(tmp_path, CONFIG).state
    for arrays in (found.parameters, found.first_moment, found.second_moment, found.average):
        assert list(arrays) == names


def test_arrays_that_lie_transposed_in_memory_are_not_scrambled(checkpoint, tmp_path):
    transposed = {"w": np.arange(6, dtype=np.float32).reshape(3, 2).T}
    state = ServerState.from_parameters(transposed)
    write_checkpoint(tmp_path, dataclasses.replace(checkpoint, state=state), CONFIG)
    assert read_checkpoint(tmp_path, CONFIG).state.parameters["w"].tolist() == [[0, 2, 4], [1, 3, 5]]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3), elements=st.floats(width=32)))
def test_any_array_survives_nan_and_infinity_too(checkpoint, tmp_path, array):
    state = ServerState.from_parameters({"w": array})
    write_checkpoint(tmp_path, dataclasses.replace(checkpoint, state=state), CONFIG)
    assert as_plain(read_checkpoint(tmp_path, CONFIG).state.parameters) == as_plain({"w": array})
