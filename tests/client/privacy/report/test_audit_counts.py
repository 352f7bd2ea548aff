"""Counts of an audit log: what is a refusal, on which day, and what older and newer lines say."""

from datetime import UTC, datetime

import pytest

from client.privacy.report.audit_counts import count_audit
from shared_model.errors import ConfigError
from shared_model.system import audit_log
from shared_model.system.audit_log import AuditLog


class Clock:
    """Stands in for the audit log's clock."""

    day = 1
    fromisoformat = datetime.fromisoformat

    @classmethod
    def now(cls, zone):
        return datetime(2026, 3, cls.day, 23, 59, tzinfo=zone)


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_log, "datetime", Clock)
    return AuditLog(tmp_path / "audit.jsonl")


def at(day):
    return datetime(2026, 3, day, 0, 1, tzinfo=UTC)


def test_no_log_is_no_refusal(tmp_path):
    found = count_audit(tmp_path / "none.jsonl", now=at(1)).refusals
    assert (found.total, found.today, found.by_reason, found.by_key, found.num_configurations) == (0, 0, (), (), 0)


def test_only_replies_with_another_outcome_are_refusals(log, monkeypatch):
    log.record("asked", round="1")
    log.record("reply", outcome="answered")
    log.record("reply", outcome="answered again")
    log.record("reply", outcome="the policy forbids it")
    log.record("something_new", outcome="the policy forbids it")
    monkeypatch.setattr(Clock, "day", 2)
    log.record("reply", outcome="the site failed")
    log.record("reply", outcome="the site failed")
    log.record("reply")
    found = count_audit(log.path, now=at(2)).refusals
    assert (found.total, found.today) == (3, 2)
    assert found.by_reason == (("the site failed", 2), ("the policy forbids it", 1))
    assert found.by_key == ()
    assert count_audit(log.path, now=at(3)).refusals.today == 0


def test_keys_and_configurations_are_counted_where_the_log_names_them(log):
    log.record("reply", outcome="no", refused_key="seed", configuration="a" * 64)
    log.record("reply", outcome="no", refused_key="seed", configuration="b" * 64)
    log.record("reply", outcome="no", refused_key=None, configuration="b" * 64)
    log.record("reply", outcome="answered", configuration="c" * 64)
    found = count_audit(log.path, now=at(1)).refusals
    assert found.by_key == (("seed", 2),)
    assert found.num_configurations == 2


def test_a_changed_log_is_not_counted(log):
    log.record("reply", outcome="no")
    log.path.write_text(log.path.read_text().replace("no", "answered"))
    with pytest.raises(ConfigError, match=r"line 1 of .+ as it was written"):
        count_audit(log.path, now=at(1))


def test_lost_releases_and_alarms_are_counted(log):
    log.record("ledger_recovered", num_releases=3, num_forgotten=1)
    log.record("ledger_recovered", num_releases=2)
    log.record("ledger_recovered")
    log.record("alarm", reason="fewer training patients than declared")
    found = count_audit(log.path, now=at(1))
    assert (found.num_recovered, found.num_alarms, found.refusals.total) == (5, 1, 0)
