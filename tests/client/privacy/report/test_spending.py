"""What single patients have spent, against adding up each patient by herself."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.privacy.cohorts import Cohorts
from client.privacy.ledger_entries import CohortAdded, Entry, Forgotten, Purpose, Reserved, Unprotected
from client.privacy.ledger_history import History, Limits, composed_epsilon
from client.privacy.pseudonyms import Cohort
from client.privacy.report.spending import bounded_epsilon, dearest, gaussian_mu_of, heaviest_spending, without_budget
from shared_model.config.choices import NoiseSource
from shared_model.privacy.mechanism import Mechanism

DELTA = 1e-4
PATIENTS = [bytes([number]) * 16 for number in range(6)]


def release(cohort, noise=2.0, purpose=Purpose.TRAINING):
    return Reserved(
        purpose=purpose,
        run="a" * 64,
        server_round=1,
        request="r",
        cohort=cohort.fingerprint,
        num_patients_declared=10,
        mechanism=Mechanism(noise_multiplier=noise, sampling_rate=1.0, num_steps=1),
        delta=DELTA,
        target_epsilon=100.0,
        max_grad_norm=1.0,
        noise=NoiseSource.SECURE,
    )


def history_of(groups, forgotten=()):
    """Return a history with one release for each group of patients."""
    contents, members = [], {}
    for group in groups:
        cohort = Cohort.from_pseudonyms(group)
        if cohort.fingerprint not in members:
            members[cohort.fingerprint] = cohort
            contents.append(CohortAdded(cohort=cohort.fingerprint, num_patients=len(cohort.members)))
        contents.append(release(cohort))
    contents += [Forgotten(patient=patient.hex()) for patient in forgotten]
    time = datetime(2026, 1, 1, tzinfo=UTC)
    entries = tuple(
        Entry(sequence=number, time=time, content=content, digest=str(number))
        for number, content in enumerate(contents, start=1)
    )
    return History(entries=entries, members=Cohorts(members))


GROUPS = st.lists(st.sets(st.sampled_from(PATIENTS), min_size=1), min_size=1, max_size=6)


@given(GROUPS)
def test_the_dearest_is_that_of_the_patient_who_took_part_most(groups):
    history = history_of(groups)
    everybody = frozenset().union(*groups)
    most = max(sum(patient in group for group in groups) for patient in everybody)
    spending = heaviest_spending(history, everybody)
    assert len(dearest(spending, DELTA)) == most
    assert all(any(set(releases) <= set(other) for other in spending) for releases in spending)


@given(GROUPS, st.integers(0, 5), st.sets(st.sampled_from(PATIENTS)))
def test_patients_without_budget_by_counting(groups, num_granted, forgotten):
    history = history_of(groups, forgotten)
    price = composed_epsilon([release(Cohort.from_pseudonyms(PATIENTS))] * (num_granted + 1), DELTA)
    found = without_budget(history, Limits(max_epsilon=price, max_delta=DELTA))
    expected = {
        patient
        for patient in frozenset().union(*groups) - forgotten
        if sum(patient in group for group in groups) + 1 > num_granted + 1
    }
    assert found == expected


def test_nobody_is_left_out_without_a_limit_or_a_release():
    history = history_of([PATIENTS])
    assert without_budget(history, Limits(max_epsilon=None, max_delta=DELTA)) == frozenset()
    empty = History(entries=history.entries[:1], members=history.members)
    assert without_budget(empty, Limits(max_epsilon=1.0, max_delta=DELTA)) == frozenset()


def test_what_has_no_bound_has_neither_epsilon_nor_mu():
    exact = Unprotected(purpose=Purpose.EVALUATION, run="b" * 64, cohort="c", num_patients_declared=3)
    private = release(Cohort.from_pseudonyms(PATIENTS))
    assert bounded_epsilon([private, exact], DELTA) is None
    assert gaussian_mu_of([private, exact]) is None
    assert bounded_epsilon([private], None) is None
    assert gaussian_mu_of([private, private]) == pytest.approx(2**0.5 / 2)
