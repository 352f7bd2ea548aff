"""Who belongs to every cohort, against looking each patient up in each cohort."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.privacy import pseudonyms
from client.privacy.cohorts import Cohorts
from client.privacy.pseudonyms import Cohort
from shared_model.errors import LedgerError

PATIENTS = [bytes([number]) * 16 for number in range(6)]
SETS = st.lists(st.frozensets(st.sampled_from(PATIENTS)), max_size=5, unique=True)


def cohorts_of(sets):
    return Cohorts({cohort.fingerprint: cohort for cohort in map(Cohort.from_pseudonyms, sets)})


@given(SETS, st.frozensets(st.sampled_from(PATIENTS)))
def test_patients_are_grouped_by_the_exact_set_of_their_cohorts(sets, members):
    cohorts = cohorts_of(sets)
    names = {Cohort.from_pseudonyms(each).fingerprint: each for each in sets}
    assert cohorts == names
    assert list(cohorts) == list(names)
    assert cohorts.everybody == frozenset().union(*sets)
    expected = {}
    for member in members:
        own = frozenset(name for name, each in names.items() if member in each)
        expected.setdefault(own, set()).add(member)
    assert cohorts.alike(members) == expected
    assert cohorts.overlapping(members) == {name for name, each in names.items() if each & members}


@given(SETS, st.frozensets(st.sampled_from(PATIENTS)))
def test_one_more_cohort_changes_no_earlier_one(sets, members):
    before, added = cohorts_of(sets), Cohort.from_pseudonyms(members)
    assert before.everybody == frozenset().union(*sets)
    after = before.with_added(added)
    assert after == dict(before) | {added.fingerprint: members}
    assert before == cohorts_of(sets)
    assert after.everybody == before.everybody | members


@pytest.mark.parametrize("name", ["", "x", Cohort.from_pseudonyms(PATIENTS).fingerprint])
def test_members_recorded_under_another_name(name):
    with pytest.raises(LedgerError, match=f"Expected the patients of cohort {name[:12]} as they were recorded"):
        Cohorts({name: Cohort.from_pseudonyms(PATIENTS[:2])})


def test_nothing_is_hashed_once_a_cohort_is_made(monkeypatch):
    sets = [PATIENTS[:number] for number in range(5)]
    cohorts, another = cohorts_of(sets), Cohort.from_pseudonyms(PATIENTS)
    monkeypatch.setattr(pseudonyms.hashlib, "sha256", None)
    assert cohorts.with_added(another).everybody == frozenset(PATIENTS)
    assert cohorts_of([]) == {}
