"""The audit in one run: the mechanism stands, gross mistakes fall, and nothing but the seed decides."""

import pytest
import torch

from client.training.dp_sgd import LocalTraining
from client.training.noise import NoiseGenerator
from shared_model.config.fingerprints import source_fingerprint
from shared_model.errors import ConfigError, PrivacyError
from shared_model.network.fusion import build_network
from shared_model.network.state import trainable_state
from shared_model.privacy.one_run_bound import least_epsilon
from shared_model.vocabulary import clinical_width
from simulations.attacks.faults import Fault
from simulations.attacks.observed_updates import observed_update
from simulations.attacks.one_run import audit_in_one_run
from simulations.attacks.one_run_canaries import MAX_CANARIES, NUM_OTHERS, canaries, one_run_config, others


@pytest.mark.parametrize(("target", "floor"), [(8.0, 1.2), (1.0, 0.0)])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_mechanism_stands_and_the_attack_is_no_straw_man(target, floor, seed):
    found = audit_in_one_run(target_epsilon=target, seed=seed)
    assert floor <= found.least_epsilon < found.claimed_epsilon <= target
    assert not found.is_violated
    assert (found.num_canaries, found.num_guesses, found.num_rounds) == (300, 100, 20)
    assert (found.fault, found.source) == ("none", source_fingerprint())
    assert found.least_epsilon == least_epsilon(found.num_right, 1e-4, num_guesses=100, num_canaries=300)


@pytest.mark.parametrize("fault", [Fault.NO_CLIPPING, Fault.PER_LESION])
def test_a_planted_fault_falls(fault):
    """At claim 2 even all of 100 right guesses prove no more than 3.4: half the noise takes more canaries."""
    found = audit_in_one_run(target_epsilon=2.0, seed=1, fault=fault)
    assert found.least_epsilon > 3.0
    assert found.is_violated
    assert found.fault == fault.name.lower()


@pytest.mark.slow
def test_half_the_noise_proves_more_than_the_whole():
    honest, half = (audit_in_one_run(target_epsilon=4.0, seed=1, fault=f) for f in (Fault.NONE, Fault.HALF_NOISE))
    assert half.num_right > honest.num_right
    assert half.least_epsilon > honest.least_epsilon


def test_an_audit_can_be_repeated_and_reports_progress():
    done = []
    found = audit_in_one_run(target_epsilon=8.0, num_canaries=9, seed=3, progress=lambda *step: done.append(step))
    assert found == audit_in_one_run(target_epsilon=8.0, num_canaries=9, seed=3)
    assert found.num_guesses == 3
    assert done == [(step, 20) for step in range(1, 21)]


@pytest.mark.parametrize("count", [2, 321])
def test_too_few_or_too_many_canaries(count):
    with pytest.raises(ConfigError, match=f"canaries={count} in .3, 320."):
        audit_in_one_run(target_epsilon=8.0, num_canaries=count, seed=0)


def test_a_delta_that_would_publish_a_patient():
    with pytest.raises(PrivacyError, match=r"Expected delta=0.02 < 1 / num_patients_declared=250"):
        audit_in_one_run(target_epsilon=8.0, delta=0.02, seed=0)


class TestCanaries:
    def test_each_has_a_feature_of_her_own_and_nobody_is_two(self):
        invented, rest = canaries(5, 7), others(7, seed=1)
        assert invented.num_patients == 5
        assert rest.num_patients == NUM_OTHERS
        assert int(rest.patients.min()) >= MAX_CANARIES
        for patient in range(5):
            rows = invented.images[invented.patients == patient]
            assert torch.equal(rows, torch.eye(rows.shape[1])[patient].expand(len(rows), -1))
        assert not invented.clinical.any()
        assert set(invented.labels.tolist()) == {1.0}

    def test_the_seed_fixes_the_others(self):
        assert torch.equal(others(7, seed=1).images, others(7, seed=1).images)
        assert not torch.equal(others(7, seed=1).images, others(7, seed=2).images)

    def test_nothing_is_carried_from_one_step_to_the_next_and_everybody_takes_part(self):
        config = one_run_config(target_epsilon=3.0, delta=1e-5)
        assert (config.privacy.target_epsilon, config.privacy.delta) == (3.0, 1e-5)
        assert (config.training.momentum, config.training.weight_decay) == (0, 0)
        assert (config.training.sampling_rate, config.training.local_steps) == (1, 1)


def test_an_observed_update_leaves_the_parameters_as_they_were():
    config = one_run_config(target_epsilon=8.0, delta=1e-4)
    width = clinical_width(config.data.features)
    network = build_network(config.model, width, seed=0)
    before = trainable_state(network)
    training = LocalTraining(config=config.training, plan=None)
    update = observed_update(network, others(width, seed=1), training, NoiseGenerator.from_seed(0))
    assert update.abs().sum() > 0
    assert all((before[name] == values).all() for name, values in trainable_state(network).items())
