"""The roles of a simulation's patients: public ones by seed and identifier, the others as a simulated site has them."""

import hashlib
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.splits import Role, assign_roles, simulated_secret
from shared_model.config.composition import compose
from shared_model.errors import ConfigError
from simulations.patient_roles import patient_position, policy_of_sites, simulated_roles

PATIENTS = st.dictionaries(st.text("PQ_0123456789", min_size=1, max_size=8), st.sampled_from(["train", "test"]))
SEEDS = st.integers(0, 2**63 - 1)


def frame(patients, num_views=2):
    rows = [(patient, split) for patient, split in patients.items()] * num_views
    return pd.DataFrame(rows, columns=["patient_id", "split"]).astype(pd.StringDtype())


def many(number):
    return {f"P_{i:05d}": "train" for i in range(number)}


def configured(*overrides):
    return compose(["preset=smoke", "data.root=unused", "run.dir=unused", *overrides])


CONFIG = configured("data.public_fraction=0.2", "data.validation_fraction=0.2")


@given(PATIENTS)
def test_test_is_the_official_split_and_everybody_else_has_one_other_role(patients):
    roles = simulated_roles(frame(patients), CONFIG)
    assert list(roles.index) == list(patients)
    for patient, split in patients.items():
        assert (roles[patient] == Role.TEST) == (split == "test")


@given(PATIENTS)
def test_whoever_is_not_public_has_the_role_that_a_site_gives(patients):
    roles = simulated_roles(frame(patients), CONFIG)
    at_the_site = assign_roles(frame(patients), secret=simulated_secret(CONFIG.seed), validation_fraction=0.2)
    is_public = roles == Role.PUBLIC
    assert (roles[~is_public] == at_the_site[~is_public]).all()
    for patient, split in patients.items():
        assert is_public[patient] == (split == "train" and patient_position(patient, 0) < 0.2)


@given(PATIENTS, PATIENTS)
def test_adding_patients_makes_nobody_else_public(patients, added):
    before = simulated_roles(frame(patients), CONFIG)
    after = simulated_roles(frame(added | patients), CONFIG)
    is_public = before == Role.PUBLIC
    assert (after[before.index] == Role.PUBLIC).tolist() == is_public.tolist()


def test_the_validation_fraction_moves_nobody_in_or_out_of_public():
    configs = [configured("data.public_fraction=0.2", f"data.validation_fraction={share}") for share in (0, 0.3)]
    first, second = (simulated_roles(frame(many(500)), config) for config in configs)
    assert ((first == Role.PUBLIC) == (second == Role.PUBLIC)).all()


@given(st.text(max_size=20), SEEDS)
def test_a_position_is_in_the_half_open_unit_interval(patient, seed):
    assert 0 <= patient_position(patient, seed) < 1


@given(st.text(max_size=8), SEEDS)
def test_a_position_equals_the_hash_written_out(patient, seed):
    message = str(seed).encode()
    for name in ("role", patient):
        message += len(name.encode()).to_bytes(4, "big") + name.encode()
    head = int.from_bytes(hashlib.sha256(message).digest()[:8], "big")
    assert patient_position(patient, seed) == pytest.approx(head / 2**64, abs=1e-15)


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_fractions_converge(seed):
    num_patients, public, validation = 4000, 0.2, 0.15
    config = configured(f"data.public_fraction={public}", f"data.validation_fraction={validation}", f"seed={seed}")
    roles = simulated_roles(frame(many(num_patients), 1), config)
    # Validation patients are drawn from those who are not public.
    for role, fraction in ((Role.PUBLIC, public), (Role.VALIDATION, (1 - public) * validation)):
        bound = 5 * math.sqrt(fraction * (1 - fraction) / num_patients)
        assert abs((roles == role).mean() - fraction) <= bound


def test_seeds_deal_differently():
    first, second = (simulated_roles(frame(many(200)), configured(f"seed={seed}")) for seed in (0, 1))
    assert first.tolist() != second.tolist()


def test_public_patients_of_one_seed_never_change():
    # Figures of the docs were measured with these very public patients.
    roles = simulated_roles(frame({f"P_{i}": "train" for i in range(40)}), configured("data.public_fraction=0.12"))
    assert [patient for patient, role in roles.items() if role == Role.PUBLIC] == ["P_15", "P_16", "P_24"]


class TestPolicy:
    def test_a_fraction_of_the_sites_own_stands_above_the_configuration(self, tmp_path):
        (tmp_path / "policy.yaml").write_text("validation_fraction: 0.5\n")
        config = configured("data.validation_fraction=0", f"federation.site_policy={tmp_path}/policy.yaml")
        roles = simulated_roles(frame(many(400)), config)
        assert 0.3 < (roles == Role.VALIDATION).mean() < 0.5

    def test_without_a_file_everything_is_allowed(self):
        policy = policy_of_sites(configured())
        assert (policy.validation_fraction, policy.declared_patients, policy.max_epsilon) == (None, None, None)

    def test_a_file_that_cannot_be_read(self, tmp_path):
        with pytest.raises(ConfigError, match=r"no\.yaml"):
            simulated_roles(frame(many(1)), configured(f"federation.site_policy={tmp_path}/no.yaml"))
