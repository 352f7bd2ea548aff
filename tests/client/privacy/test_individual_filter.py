"""Budgets over any sequence of requests: nobody passes a cap, and nobody's presence decides who is answered.

Two ledgers hear the same requests about cohorts that differ by one patient. A second way to the price, the composed
Gaussian mechanism of Dong et al. 2022, adds up what every patient really took part in: once with the noise of whole
secure sums, and once with the sites' own shares of it.
"""

import dataclasses
import math

import pytest
from hypothesis import example, given, note, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy.stats import norm

from client.privacy.ledger import Ledger
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Purpose, Reserved, Unprotected
from client.privacy.ledger_files import new_key_path
from client.privacy.ledger_history import Limits
from client.privacy.ledger_reservation import Reservation, StoredReply
from shared_model.config.choices import NoiseSource
from shared_model.errors import BudgetError
from shared_model.privacy.mechanism import Mechanism

PATIENTS = [f"P{number}" for number in range(6)]
DELTA, CAP, CAP_ALONE = 1e-4, 3.0, 4.5
FREE = Limits(max_epsilon=None, max_delta=DELTA)
CAPPED = Limits(max_epsilon=CAP, max_delta=DELTA)
"""Grants nothing more to whoever breaks a secure sum."""
CAPPED_TWICE = Limits(max_epsilon=CAP, max_delta=DELTA, max_epsilon_alone=CAP_ALONE)

REQUESTS = st.tuples(
    st.sampled_from(["private", "private", "private", "private", "unprotected", "forget"]),
    st.sampled_from(Purpose),
    st.integers(0, 9),
    st.sampled_from(["a", "b", "c"]),
    st.frozensets(st.sampled_from(PATIENTS)),
    st.sampled_from([1.5, 1.5, 2.431, 5.0]),
    st.sampled_from([1, 1, 2, 3]),
    st.booleans(),
)
"""Kind, purpose, request, run, cohort, noise multiplier, its shares, and whether the site crashes before its reply."""


def about_everybody(purpose, request, noise_multiplier, num_shares):
    return ("private", purpose, request, "a", frozenset(PATIENTS), noise_multiplier, num_shares, False)


PLAIN = [about_everybody(Purpose.TRAINING, number, 1.5, 1) for number in range(2)]
"""Within the cap of whoever breaks the sums, and beyond the other."""
SUMS = [about_everybody(Purpose.TRAINING, 0, 1.5, 3)]
"""The other way round."""
PLAIN_OF_TWO_PURPOSES = [about_everybody(purpose, 0, 1.5, 1) for purpose in Purpose]
"""Each purpose is within both caps; who took part in both is beyond the first."""
SUMS_OF_TWO_PURPOSES = [
    *(about_everybody(Purpose.TRAINING, number, 2.431, 3) for number in range(2)),
    about_everybody(Purpose.EVALUATION, 0, 2.431, 3),
]
"""The same for the second cap."""


def gaussian_epsilon(noise_multipliers):
    """Dong et al. 2022, Corollary 2.13; 0 for nothing."""
    if not noise_multipliers:
        return 0.0
    mu = math.sqrt(sum(noise**-2 for noise in noise_multipliers))

    def excess(epsilon):
        return norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu) - DELTA

    return optimize.brentq(excess, 0, 200)


def begin(folder):
    """A ledger whose key is known, so that pseudonyms of two of them can be compared."""
    folder.mkdir()
    new_key_path(folder / "ledger.sqlite").write_bytes(bytes(32))
    return Ledger.create(folder / "ledger.sqlite")


def ask(ledger, question, limits, *, without=()):
    """Put a question; return what an observer may see of the outcome, and who took part."""
    kind, purpose, request, run, patients, noise_multiplier, num_shares, crashes = question
    mechanism = Mechanism(noise_multiplier=noise_multiplier, sampling_rate=1.0, num_steps=1)
    share = dataclasses.replace(mechanism, noise_multiplier=noise_multiplier / math.sqrt(num_shares))
    cohort = ledger.cohort(patients - set(without))
    try:
        if kind == "unprotected":
            release = Unprotected(purpose=purpose, run=run, cohort="", num_patients_declared=3)
            return "noted", ledger.note_unprotected(release, cohort, limits)
        release = Reserved(
            purpose=purpose,
            run=run,
            server_round=1,
            request=f"{request}",
            cohort="",
            num_patients_declared=3,
            mechanism=mechanism,
            delta=DELTA,
            target_epsilon=5.0,
            max_grad_norm=1.0,
            noise=NoiseSource.SECURE,
            own_share=None if num_shares == 1 else share,
        )
        granted = ledger.reserve(release, cohort, limits, reply_bytes=10)
    except BudgetError as error:
        return str(error), frozenset()
    if isinstance(granted, StoredReply):
        return granted.content, frozenset()
    assert isinstance(granted, Reservation)
    if not crashes:
        ledger.commit(granted, b"reply")
    return (granted.sequence > 0, granted.epsilon, bool(granted.previous_witness)), granted.members


@pytest.mark.slow
@settings(max_examples=80)
@example(free=[], capped=PLAIN, limits=CAPPED_TWICE)
@example(free=[], capped=SUMS, limits=CAPPED_TWICE)
@example(free=[], capped=PLAIN_OF_TWO_PURPOSES, limits=CAPPED_TWICE)
@example(free=[], capped=SUMS_OF_TWO_PURPOSES, limits=CAPPED_TWICE)
@given(
    free=st.lists(REQUESTS, max_size=4),
    capped=st.lists(REQUESTS, max_size=14),
    limits=st.sampled_from([CAPPED, CAPPED_TWICE]),
)
def test_two_ledgers_that_differ_by_one_patient_answer_alike_and_nobody_passes_a_cap(
    tmp_path_factory, free, capped, limits
):
    """A site that once granted without limit may have set one since."""
    folder, gone = tmp_path_factory.mktemp("ledgers"), PATIENTS[0]
    whole, rest = begin(folder / "whole"), begin(folder / "rest")
    hers, num_free = whole.pseudonym(gone), 0
    for policy, questions in ((FREE, free), (limits, capped)):
        for question in questions:
            note(f"{policy}: {question}")
            if question[0] == "forget":
                for patient in question[4]:
                    whole.forget(patient)
                    rest.forget(patient)
                continue
            seen, members = ask(whole, question, policy)
            seen_without, members_without = ask(rest, question, policy, without=[gone])
            assert seen == seen_without
            # Everybody else takes part as if she were not there.
            assert members - {hers} == members_without
        num_free = num_free or len(read_history(whole.path).entries)
    history = read_history(whole.path)
    require_cap(history, num_free, lambda release: release.mechanism, CAP)
    most = CAP if limits is CAPPED else CAP_ALONE
    require_cap(history, num_free, lambda release: release.own_share or release.mechanism, most)


def require_cap(history, num_free, seen, cap):
    """Whatever a patient spent before, no release after the first ``num_free`` entries leaves her above the cap.

    Args:
        history: of a ledger.
        num_free: entries that were made without limits.
        seen: of a release what the reader of it sees.
        cap: of what is seen in all.
    """
    spent = {}
    for entry in history.entries:
        release = entry.content
        if not isinstance(release, Reserved | Unprotected):
            continue
        for member in history.members[release.cohort]:
            mine = spent.setdefault(member, [])
            mine.append(seen(release).noise_multiplier if isinstance(release, Reserved) else None)
            if entry.sequence > num_free:
                assert None not in mine
                assert gaussian_epsilon(mine) <= cap
