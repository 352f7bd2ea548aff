"""A hospital's process begins only after its checks, and then answers with the code that is installed here."""

import contextlib
import logging
import threading

import pytest
import torch
import yaml

from client.app import app
from client.deployment import preflight as checking
from client.deployment import supernode
from client.deployment.checks import Check, Status
from shared_model.system import processes
from shared_model.system.process_lock import ProcessLock
from simulations.commands.app import main


@pytest.fixture
def site(tmp_path, monkeypatch):
    settings = {"site": "MGH", "server": "localhost:1", "data_root": "data", "data_source": "cbis_ddsm"}
    settings |= {"roster": None, "ledger": "ledger.sqlite", "policy": "policy.yaml", "state_dir": "state"}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    # The command sets them for its whole process.
    num_threads, level = torch.get_num_threads(), logging.getLogger("httpx").level
    yield tmp_path
    torch.set_num_threads(num_threads)
    logging.getLogger("httpx").setLevel(level)


@pytest.fixture
def served(monkeypatch):
    """What is served: nothing else happens."""
    found, stop = [], threading.Event()
    monkeypatch.setattr(processes, "stop_on_signals", lambda: contextlib.nullcontext(stop))
    monkeypatch.setattr(supernode, "serve", lambda site, app, *, stop: found.append((site, app, stop)))
    yield found
    assert all(event is stop for _, _, event in found)


@pytest.mark.parametrize("status", [Status.OK, Status.WARNING])
def test_a_site_without_failed_checks_answers(site, served, monkeypatch, capsys, status):
    monkeypatch.setattr(checking, "preflight", lambda _site: [Check(name="server", status=status, detail="away")])
    assert main(["site", "start"]) == 0
    ((settings, served_app, _),) = served
    assert (settings.site, settings.ledger) == ("MGH", site / "ledger.sqlite")
    assert served_app is app
    shown = capsys.readouterr().out
    assert "Preflight" in shown
    assert "MGH answers localhost:1; stop with Ctrl-C." in shown


def test_a_failed_check_stops_it(site, served, monkeypatch, capsys):
    failed = Check(name="data", status=Status.FAILED, detail="none", remedy="correct data_root")
    monkeypatch.setattr(checking, "preflight", lambda _site: [failed])
    assert main(["site", "start"]) == 1
    assert served == []
    said = capsys.readouterr()
    assert "correct data_root" in said.out
    assert said.err.splitlines() == [
        "error: Expected every check to pass before the site takes part; do what the table says."
    ]


def test_a_second_process_of_the_site_is_told_who_is_the_first(site, served, monkeypatch, capsys):
    monkeypatch.setattr(checking, "preflight", lambda _site: [])
    with ProcessLock.take(site / "state" / "lock"):
        assert main(["site", "start"]) == 1
    assert served == []
    assert "error: Expected one process at a time in" in capsys.readouterr().err


def test_start_never_creates_a_ledger(begun, served):
    for path in begun.folder.glob("ledger*"):
        path.unlink()
    assert main(["site", "start"]) == 1
    assert served == []
    assert list(begun.folder.glob("ledger*")) == [begun.folder / "ledger.sqlite.lock"] or not list(
        begun.folder.glob("ledger*")
    )


def test_new_spellings_are_accepted_by_name(begun, served, capsys):
    begun.table.write_text(begun.table.read_text().replace("P000", "p"))
    assert main(["site", "start"]) == 1
    assert "--accept-spellings" in " ".join(capsys.readouterr().out.split())
    assert main(["site", "start", "--accept-spellings"]) == 0
    assert len(served) == 1
