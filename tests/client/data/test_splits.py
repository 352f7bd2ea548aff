import hashlib
import hmac
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.splits import Role, assign_roles, check_cohort, simulated_secret
from client.identifiers import fold_identifier
from shared_model.errors import CohortError

PATIENTS = st.dictionaries(st.text(min_size=1, max_size=8), st.sampled_from(["train", "test"]), max_size=20)
FRACTIONS = st.floats(0, 1)
SECRETS = st.binary(min_size=32, max_size=32)
SECRET = bytes(range(32))


def frame(patients, num_views=2):
    rows = [(patient, split) for patient, split in patients.items()] * num_views
    return pd.DataFrame(rows, columns=["patient_id", "split"]).astype(pd.StringDtype())


def roles_of(patients, fraction, secret=SECRET):
    return assign_roles(frame(patients), secret=secret, validation_fraction=fraction)


@given(patients=PATIENTS, fraction=FRACTIONS, secret=SECRETS)
def test_every_patient_has_exactly_one_role_and_test_is_the_official_split(patients, fraction, secret):
    roles = roles_of(patients, fraction, secret)
    assert list(roles.index) == list(patients)
    assert all(isinstance(role, Role) for role in roles)
    assert Role.PUBLIC not in set(roles)
    for patient, split in patients.items():
        assert (roles[patient] is Role.TEST) == (split == "test")


@given(patients=PATIENTS, added=PATIENTS, fraction=FRACTIONS, secret=SECRETS)
def test_adding_patients_changes_nobody_else(patients, added, fraction, secret):
    before = roles_of(patients, fraction, secret)
    after = roles_of(added | patients, fraction, secret)
    assert after[before.index].tolist() == before.tolist()


@given(patients=PATIENTS, fractions=st.tuples(FRACTIONS, FRACTIONS), secret=SECRETS)
def test_a_larger_fraction_keeps_those_of_a_smaller_one(patients, fractions, secret):
    fewer, more = (roles_of(patients, fraction, secret) for fraction in sorted(fractions))
    assert all(role == Role.VALIDATION for role in more[fewer == Role.VALIDATION])


@pytest.mark.parametrize("fraction", [0.0, 0.12, 0.3, 1.0])
@pytest.mark.parametrize("secret", [SECRET, bytes(32)])
def test_fractions_converge(secret, fraction):
    num_patients = 4000
    roles = roles_of({f"P_{i:05d}": "train" for i in range(num_patients)}, fraction, secret)
    bound = 5 * math.sqrt(fraction * (1 - fraction) / num_patients)
    assert abs((roles == Role.VALIDATION).mean() - fraction) <= bound


def test_secrets_deal_differently():
    patients = {f"P_{i}": "train" for i in range(200)}
    assert roles_of(patients, 0.3, SECRET).tolist() != roles_of(patients, 0.3, bytes(32)).tolist()
    assert simulated_secret(0) == simulated_secret(0) != simulated_secret(1)


def test_roles_of_one_secret_never_change():
    # A ledger written by an older version counts on these very roles.
    roles = roles_of({f"P_{i}": "train" for i in range(8)} | {"T": "test"}, 0.5)
    assert "".join(role[0] for role in roles) == "tvvttvvvt"


@given(number=st.integers(0, 10**6), fraction=FRACTIONS, secret=SECRETS)
def test_a_role_is_the_keyed_hash_of_the_folded_identifier(number, fraction, secret):
    patient = f" P_{number:09d}"
    digest = hmac.new(secret, fold_identifier(patient).encode(), hashlib.sha256).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if abs(position - fraction) > 1e-12:
        expected = Role.VALIDATION if position < fraction else Role.TRAIN
        assert roles_of({patient: "train"}, fraction, secret)[patient] is expected


def test_spellings_of_one_identifier_have_one_role():
    spellings = ["P_00012", "p_12", " P_00012 ", "P_00012\u200b"]
    for fraction in np.linspace(0, 1, 21):
        assert len({roles_of({spelling: "train"}, fraction)[spelling] for spelling in spellings}) == 1


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan])
def test_fractions_out_of_bounds(fraction):
    with pytest.raises(ValueError, match="Expected validation_fraction="):
        roles_of({"A": "train"}, fraction)


@pytest.mark.parametrize("splits", [["train", "test"], ["test", "train"]])
def test_a_patient_in_both_splits_is_a_test_patient(splits):
    """An error would tell that there is one."""
    both = pd.DataFrame({"patient_id": ["A", "A"], "split": splits})
    assert assign_roles(both, secret=SECRET, validation_fraction=0.1).to_dict() == {"A": Role.TEST}


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
