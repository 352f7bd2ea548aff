"""What has changed between two moments of a federation."""

from pathlib import Path

import pytest

from server.deployment.control import FlowerRun
from server.deployment.federation_status import Change, FederationStatus, RunStatus, changes, read_status
from server.deployment.progress import Progress

FOLDER = Path("/runs/one")


def run(status, run_id="42", epsilon=1.0, target=8.0, details=""):
    progress = Progress(server_round=1, num_rounds=9, num_sites=3, epsilon=epsilon, target_epsilon=target)
    flower = FlowerRun(run_id=run_id, status=status, details=details, submitted="2026-01-01T00:00:00+00:00")
    return RunStatus(run=flower, folder=FOLDER, progress=progress)


def federation(*runs, **sites):
    return FederationStatus(sites=sites, runs=runs)


def happened(before, after):
    return [(change.event, change.subject, change.details) for change in changes(before, after)]


def test_nothing():
    same = federation(run("running"), run("finished:failed", "7"), mgh="online", wfu="offline")
    assert changes(same, same) == []
    assert same.away == ("wfu",)


def test_a_run_begins_and_ends():
    assert happened(federation(), federation(run("pending"))) == [("run-started", "42", "/runs/one")]
    running = federation(run("running"))
    for status, event in (
        ("finished:completed", "run-finished"),
        ("finished:stopped", "run-stopped"),
        ("finished:failed", "run-failed"),
    ):
        ended = federation(run(status, details="Expected more."))
        assert happened(running, ended) == [(event, "42", "Expected more.")]
        assert happened(ended, ended) == []


def test_a_run_that_began_and_failed_between_two_looks_is_told_whole():
    assert [event for event, *_ in happened(federation(), federation(run("finished:failed")))] == [
        "run-started",
        "run-failed",
    ]


@pytest.mark.parametrize(("before", "after", "is_told"), [(7.0, 7.2, True), (7.0, 7.1, False), (7.2, 8.0, False)])
def test_a_budget_that_is_nearly_spent_is_told_once(before, after, is_told):
    found = happened(federation(run("running", epsilon=before)), federation(run("running", epsilon=after)))
    assert found == ([("budget-nearly-spent", "42", "90% of the epsilon of the run, /runs/one")] if is_told else [])


@pytest.mark.parametrize("values", [{"epsilon": None}, {"target": None}])
def test_without_privacy_no_budget_is_spent(values):
    assert run("running", **values).target_share == 0
    assert RunStatus(run=run("pending").run, folder=None, progress=None).target_share == 0


def test_sites_come_and_go():
    before, after = federation(mgh="online", wfu="registered"), federation(mgh="offline", wfu="online")
    assert changes(before, after) == [
        Change(event="site-offline", subject="mgh", details="offline"),
        Change(event="site-online", subject="wfu", details="online"),
    ]
    assert changes(federation(wfu="registered"), federation(wfu="offline")) == []


def test_a_run_of_another_kit_has_no_folder(coordinator):
    status = read_status(coordinator.kit)
    assert set(status.sites) == {"mgh", "wfu"}
    assert status.away == ("mgh", "wfu")
    assert all(found.folder is None for found in status.runs)
