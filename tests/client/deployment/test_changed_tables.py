"""Tables that are written to between two rounds: read again, said at the site, and told nobody outside."""

import errno
import logging
from pathlib import Path

import pytest

from client.app import app
from client.deployment.desk import Desk
from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import Reserved
from shared_model.system.audit_log import read
from tests.hospital_kits import rows_of

PATIENTS = [f"P{number:05d}" for number in range(48)]


def events(kit):
    return [line.event for line in read(kit.site.audit_log)]


def members(kit):
    """The patients of the last release."""
    history = Ledger(kit.site.ledger).history()
    cohort = next(e.content.cohort for e in reversed(history.entries) if isinstance(e.content, Reserved))
    return history.members[cohort]


@pytest.mark.parametrize(
    ("patients", "said"),
    [
        (PATIENTS[:-1], "The site's patients changed: 1 gone, 0 new, 47 now."),
        ([*PATIENTS, "another"], "The site's patients changed: 0 gone, 1 new, 49 now."),
    ],
    ids=["withdrawn", "added"],
)
def test_who_came_and_went_counts_from_the_next_round_on(begun, caplog, patients, said):
    """With one process all the time: earlier the table of the first request counted for the life of the process."""
    desk, before = Desk.open(begun.site, app), set(events(begun))
    assert not begun.ask(desk=desk).has_error()
    first = members(begun)
    begun.write_table(rows_of(patients, num_test=5))
    with caplog.at_level(logging.WARNING):
        reply = begun.ask(server_round=2, desk=desk)
    assert not reply.has_error()
    ledger = Ledger(begun.site.ledger)
    changed = {ledger.pseudonym(patient) for patient in set(patients) ^ set(PATIENTS)}
    assert first ^ members(begun) == changed
    assert said in caplog.text
    assert "Changed since the last request, and read again: table.csv." in caplog.text
    assert before.isdisjoint({"tables_changed"})
    assert events(begun)[-5:] == ["asked", "reply", "tables_changed", "asked", "reply"]
    (line,) = [line for line in read(begun.site.audit_log) if line.event == "tables_changed"]
    assert dict(line.facts) == {"num_files": 1}


def test_a_table_that_stays_is_not_mentioned(begun, caplog):
    desk = Desk.open(begun.site, app)
    for server_round in (1, 2):
        begun.ask(server_round=server_round, desk=desk)
    assert "tables_changed" not in events(begun)
    assert "read again" not in caplog.text


def test_a_table_that_goes_and_comes_is_noticed_twice(begun):
    desk, content = Desk.open(begun.site, app), begun.table.read_bytes()
    begun.table.unlink()
    assert begun.ask(desk=desk).has_error()
    begun.table.write_bytes(content)
    assert not begun.ask(server_round=1, desk=desk).has_error()
    assert events(begun).count("tables_changed") == 2


def test_a_share_that_is_away_refuses_and_does_not_end_the_process(begun, monkeypatch):
    desk, real = Desk.open(begun.site, app), Path.stat

    def stale(path, **named):
        if path == begun.table:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, **named)

    with monkeypatch.context() as away:
        away.setattr(Path, "stat", stale)
        assert begun.ask(desk=desk).has_error()
    assert not begun.ask(desk=desk).has_error()


def test_values_that_are_corrected_are_noticed_though_the_same_patients_stay(begun, caplog):
    desk = Desk.open(begun.site, app)
    begun.ask(desk=desk)
    begun.write_table([row | {"breast_density": 3} for row in rows_of(PATIENTS, num_test=5)])
    begun.ask(server_round=2, desk=desk)
    assert events(begun).count("tables_changed") == 1
    assert "patients changed" not in caplog.text
