"""The page and the command that tell people what happens in a federation."""

import logging
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from server.deployment import watch as watch_module
from server.deployment.kit import ServerKit
from server.deployment.watch import Watch, to_html
from shared_model.errors import RoundError
from tests.server.deployment.test_federation_status import federation, run

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def kit(tmp_path):
    (tmp_path / "server.yaml").write_text("{hosts: [localhost], port: 9092, sites: [mgh]}")
    return ServerKit.load(tmp_path)


@pytest.fixture
def world(monkeypatch):
    """The states that one look after another finds, a minute apart."""
    states, clock = [], [0.0]

    def read_status(_kit):
        state = states.pop(0)
        if isinstance(state, Exception):
            raise state
        return state

    def monotonic():
        clock[0] += 60
        return clock[0]

    monkeypatch.setattr(watch_module, "read_status", read_status)
    monkeypatch.setattr(watch_module, "time", SimpleNamespace(monotonic=monotonic))
    return states


def warnings_of(caplog):
    """What happened is logged too, where fedmammo server start has asked for it."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def look(kit, world, *states, notify=()):
    watch = Watch(kit, notify)
    for state in states:
        world.append(state)
        watch.look()
    for process in watch._called:
        process.wait(600)


def test_what_happens_is_told_in_order_and_each_once(kit, world, tmp_path):
    out = tmp_path / "out"
    command = (sys.executable, "-c", f"import sys; open({str(out)!r}, 'a').write(repr(sys.argv[1:]) + '\\n')")
    ended = federation(run("finished:failed", details="Expected [red]; $(touch x)"), mgh="online")
    look(kit, world, federation(mgh="online"), ended, ended, notify=command)
    # Two programs may run at the same time.
    assert sorted(out.read_text().splitlines()) == [
        "['run-failed', '42', 'Expected [red]; $(touch x)']",
        "['run-started', '42', '/runs/one']",
    ]


def test_what_was_before_the_start_is_no_news(kit, world, tmp_path):
    look(kit, world, federation(run("finished:failed"), mgh="online"), notify=("touch", str(tmp_path / "told")))
    assert not (tmp_path / "told").exists()


def test_a_program_that_is_not_there_is_a_warning(kit, world, caplog):
    look(kit, world, federation(), federation(mgh="online"), notify=("/no/such/program",))
    assert warnings_of(caplog) == [
        "Nobody was told of site-online mgh: [Errno 2] No such file or directory: '/no/such/program'"
    ]


def test_a_superlink_that_is_away_is_a_warning_and_no_end(kit, world, caplog):
    look(kit, world, federation(mgh="online"), RoundError("away"), federation(mgh="offline"))
    assert warnings_of(caplog) == ["The status page is not up to date: away"]
    assert "Away: mgh." in kit.status_page.read_text()


def test_it_looks_from_time_to_time_only(kit, world, monkeypatch):
    world += [federation()] * 3
    times = iter([0.0, 1.0, 1.0, 2.0, 3.0, 5.9, 6.1, 6.1])
    monkeypatch.setattr(watch_module, "time", SimpleNamespace(monotonic=times.__next__))
    watch = Watch(kit)
    for _ in range(5):
        watch.look()
    assert len(world) == 1


def test_the_page_says_all_and_loads_nothing(kit, world):
    status = federation(run("finished:failed", details="<b>&"), mgh="online", wfu="offline")
    page = to_html(status, NOW, seconds=5)
    assert "As of 2026-01-02 03:04:05 UTC" in page
    assert '<meta http-equiv="refresh" content="5">' in page
    assert "finished:failed: &lt;b&gt;&amp;" in page
    assert "1 of 9" in page
    assert "1.00 of 8.00" in page
    assert "Away: wfu." in page
    for word in ("<script", "http://", "https://", "src=", "url("):
        assert word not in page


def test_the_page_of_a_federation_without_runs(kit):
    page = to_html(federation(mgh="online"), NOW, seconds=5)
    assert "All 1 sites are connected" in page
    assert "No run was submitted yet" in page
