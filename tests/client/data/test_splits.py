import hashlib
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.splits import Role, assign_roles, check_cohort, patient_position
from shared_model.errors import CohortError

PATIENTS = st.dictionaries(st.text(min_size=1, max_size=8), st.sampled_from(["train", "test"]), max_size=20)
FRACTIONS = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5))
SEEDS = st.integers(0, 2**63 - 1)


def frame(patients, num_views=2):
    rows = [(patient, split) for patient, split in patients.items()] * num_views
    return pd.DataFrame(rows, columns=["patient_id", "split"]).astype(pd.StringDtype())


def roles_of(patients, fractions, seed):
    return assign_roles(frame(patients), public_fraction=fractions[0], validation_fraction=fractions[1], seed=seed)


@settings(deadline=None)
@given(patients=PATIENTS, fractions=FRACTIONS, seed=SEEDS)
def test_every_patient_has_exactly_one_role_and_test_is_the_official_split(patients, fractions, seed):
    roles = roles_of(patients, fractions, seed)
    assert list(roles.index) == list(patients)
    assert all(isinstance(role, Role) for role in roles)
    for patient, split in patients.items():
        assert (roles[patient] is Role.TEST) == (split == "test")


@settings(deadline=None)
@given(patients=PATIENTS, added=PATIENTS, fractions=FRACTIONS, seed=SEEDS)
def test_adding_patients_changes_nobody_else(patients, added, fractions, seed):
    before = roles_of(patients, fractions, seed)
    after = roles_of(added | patients, fractions, seed)
    assert after[before.index].tolist() == before.tolist()


@settings(deadline=None)
@given(patients=PATIENTS, fractions=FRACTIONS, seed=SEEDS)
def test_validation_fraction_moves_nobody_in_or_out_of_public(patients, fractions, seed):
    some = roles_of(patients, fractions, seed)
    none = roles_of(patients, (fractions[0], 0.0), seed)
    assert ((some == Role.PUBLIC) == (none == Role.PUBLIC)).all()


@settings(deadline=None)
@given(patient=st.text(max_size=20), seed=SEEDS)
def test_position_is_in_the_half_open_unit_interval(patient, seed):
    assert 0 <= patient_position(patient, seed) < 1


@pytest.mark.parametrize("seed", [0, 1, 12345])
@pytest.mark.parametrize(("public", "validation"), [(0.12, 0.0), (0.2, 0.15), (0.0, 0.3)])
def test_fractions_converge(seed, public, validation):
    num_patients = 4000
    roles = roles_of({f"P_{i:05d}": "train" for i in range(num_patients)}, (public, validation), seed)
    for role, fraction in ((Role.PUBLIC, public), (Role.VALIDATION, validation)):
        bound = 5 * math.sqrt(fraction * (1 - fraction) / num_patients)
        assert abs((roles == role).mean() - fraction) <= bound


def test_seeds_deal_differently():
    patients = {f"P_{i}": "train" for i in range(200)}
    assert roles_of(patients, (0.3, 0.3), 0).tolist() != roles_of(patients, (0.3, 0.3), 1).tolist()


def test_roles_of_one_seed_never_change():
    # A ledger written by an older version counts on these very roles.
    roles = roles_of({f"P_{i}": "train" for i in range(5)} | {"T": "test"}, (0.3, 0.3), 0)
    assert list(roles) == ["public", "validation", "train", "train", "train", "test"]


@settings(deadline=None)
@given(patient=st.text(max_size=8), seed=SEEDS)
def test_position_equals_the_hash_written_out(patient, seed):
    message = str(seed).encode()
    for name in ("role", patient):
        message += len(name.encode()).to_bytes(4, "big") + name.encode()
    head = int.from_bytes(hashlib.sha256(message).digest()[:8], "big")
    assert patient_position(patient, seed) == pytest.approx(head / 2**64, abs=1e-15)


@pytest.mark.parametrize("fractions", [(-0.1, 0.2), (0.1, -0.2), (0.6, 0.5), (math.nan, 0.1)])
def test_fractions_out_of_bounds(fractions):
    with pytest.raises(ValueError, match="Expected public_fraction="):
        roles_of({"A": "train"}, fractions, 0)


def test_patient_in_both_splits_is_refused():
    both = pd.DataFrame({"patient_id": ["A", "A"], "split": ["train", "test"]})
    with pytest.raises(ValueError, match="Expected every patient in one split, got 1 in both"):
        assign_roles(both, public_fraction=0.1, validation_fraction=0.1, seed=0)


def test_cohort_with_both_classes_passes():
    check_cohort(np.array([0, 1]), np.array(["a", "b"]), role=Role.TRAIN)
    check_cohort([1.0, 1.0], [0, 1], role=Role.TEST)


@pytest.mark.parametrize("role", list(Role))
def test_empty_cohort(role):
    with pytest.raises(CohortError, match=f"Expected number of {role} patients=0 > 0"):
        check_cohort([], [], role=role)


@pytest.mark.parametrize(("label", "kind"), [(0, "benign"), (1, "malignant")])
def test_training_on_one_class(label, kind):
    with pytest.raises(CohortError, match=f"train patients of both classes, got 3 lesions of 2 patients, all {kind}"):
        check_cohort([label] * 3, ["a", "a", "b"], role=Role.TRAIN)


def test_the_reason_that_may_leave_the_site_holds_no_count():
    assert not any(character.isdigit() for character in CohortError.public_reason)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="of the same shape"):
        check_cohort([0, 1], ["a"], role=Role.TRAIN)
