"""A release as facts of the audit log, and back."""

import dataclasses

import pytest

from client.privacy.audited_releases import LostRelease, is_known, lost_release, release_facts
from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import Purpose, Reserved, Unprotected
from client.privacy.ledger_history import Limits
from shared_model.config.choices import NoiseSource
from shared_model.errors import ConfigError
from shared_model.privacy.mechanism import Mechanism
from shared_model.system.audit_log import AuditLog, read

RUN = "a" * 64
RELEASE = Reserved(
    purpose=Purpose.TRAINING,
    run=RUN,
    server_round=3,
    request="b" * 64,
    cohort="",
    num_patients_declared=30,
    mechanism=Mechanism(noise_multiplier=2.431, sampling_rate=0.3, num_steps=7),
    delta=1e-5,
    target_epsilon=9.0,
    max_grad_norm=0.5,
    noise=NoiseSource.SECURE,
)
SHARE = dataclasses.replace(
    RELEASE, request="d" * 64, own_share=dataclasses.replace(RELEASE.mechanism, noise_multiplier=1.4)
)
EXACT = Unprotected(purpose=Purpose.EVALUATION, run=RUN, cohort="", num_patients_declared=10)
GENEROUS = Limits(max_epsilon=None, max_delta=1e-4)


@pytest.fixture
def ledger(tmp_path):
    """A ledger with one release of each kind."""
    made = Ledger.create(tmp_path / "ledger.sqlite")
    cohort = made.cohort(["p1", "p2"])
    for release in (RELEASE, SHARE):
        made.commit(made.reserve(release, cohort, GENEROUS, reply_bytes=10), b"reply")
    made.note_unprotected(EXACT, cohort, GENEROUS)
    return made


@pytest.mark.parametrize("release", [RELEASE, SHARE, EXACT])
def test_what_the_log_says_is_enough_to_enter_it_again(ledger, tmp_path, release):
    request = getattr(release, "request", "c" * 64)
    facts = release_facts(ledger.history(), purpose=release.purpose, request=request, run=RUN)
    AuditLog(tmp_path / "audit.jsonl").record("reply", configuration=RUN, **facts)
    (line,) = read(tmp_path / "audit.jsonl")
    found = lost_release(line.facts)
    assert isinstance(found, LostRelease)
    assert found.release == release
    assert (found.reply is not None) == isinstance(release, Reserved)


def test_a_lost_release_of_a_secure_sum_is_entered_with_both_prices(ledger, tmp_path):
    facts = release_facts(ledger.history(), purpose=Purpose.TRAINING, request=SHARE.request, run=RUN)
    lost = lost_release({**facts, "configuration": RUN})
    older = Ledger.create(tmp_path / "older.sqlite")
    older.enter_lost([lost], forgotten=(), patients=["p1"])
    (entered,) = older.history().releases_for(Purpose.TRAINING)
    assert (entered.mechanism, entered.own_share) == (SHARE.mechanism, SHARE.own_share)


@pytest.mark.parametrize("noise_multiplier", [-1.0, 2.5, "much"])
def test_a_share_that_cannot_be_is_an_error(ledger, noise_multiplier):
    facts = release_facts(ledger.history(), purpose=Purpose.TRAINING, request=SHARE.request, run=RUN)
    with pytest.raises(ConfigError, match="own_share"):
        lost_release({**facts, "own_noise_multiplier": noise_multiplier, "configuration": RUN})


def test_nobody_is_named(ledger):
    facts = release_facts(ledger.history(), purpose=Purpose.TRAINING, request=RELEASE.request, run=RUN)
    assert not {"cohort", "patients", "members"} & set(facts)


def test_a_request_without_release_has_no_facts(ledger):
    assert release_facts(ledger.history(), purpose=Purpose.TRAINING, request="c" * 64, run=RUN) == {}
    assert lost_release({"configuration": RUN, "outcome": "answered"}) is None


@pytest.mark.parametrize("missing", ["delta", "noise_multiplier", "reply", "request"])
def test_a_missing_fact_is_named(ledger, missing):
    facts = release_facts(ledger.history(), purpose=Purpose.TRAINING, request=RELEASE.request, run=RUN)
    del facts[missing]
    with pytest.raises(ConfigError, match=f"Expected the fact '{missing}' of a release in the audit log"):
        lost_release({**facts, "configuration": RUN})


def test_a_wrong_fact_is_an_error(ledger):
    facts = release_facts(ledger.history(), purpose=Purpose.TRAINING, request=RELEASE.request, run=RUN)
    with pytest.raises(ConfigError, match="noise_multiplier"):
        lost_release({**facts, "noise_multiplier": -1.0, "configuration": RUN})


def test_whether_the_ledger_has_a_release(ledger):
    history = ledger.history()
    assert is_known(history, RELEASE)
    assert is_known(history, EXACT)
    assert not is_known(history, dataclasses.replace(RELEASE, request="c" * 64))
    assert not is_known(history, dataclasses.replace(EXACT, run="c" * 64))
    assert not is_known(history, dataclasses.replace(EXACT, purpose=Purpose.TRAINING))
