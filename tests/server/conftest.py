"""A federation whose sites answer at once, a clock that nobody waits for, and one finished run."""

from pathlib import Path

import pytest

from server.federation.rounds import federate
from server.report.html_report import write_report
from server.report.run_folder import RunFolder
from tests import scripted_federation
from tests.scripted_federation import FakeClock, ScriptedFederation, SiteGrid, write_attributes, write_lesions


@pytest.fixture
def clock(monkeypatch):
    """The clock of the exchange: no test waits, and none depends on how busy the machine is."""
    fake = FakeClock()
    monkeypatch.setattr("server.federation.exchange.time", fake)
    return fake


@pytest.fixture(autouse=True, scope="module")
def task_identity():
    """Messages carry the identity of the process that makes them."""
    with scripted_federation.task_identity():
        yield


@pytest.fixture
def federation(tmp_path: Path) -> ScriptedFederation:
    return write_lesions(tmp_path)


@pytest.fixture(scope="module")
def shared_federation(tmp_path_factory: pytest.TempPathFactory) -> ScriptedFederation:
    """For fixtures that several tests share; its files are not to be changed."""
    return write_lesions(tmp_path_factory.mktemp("federation"))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run with its report, as a server leaves it; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("finished")
    federation = write_lesions(folder)
    write_attributes(federation.holdout.with_suffix(".csv"), 120)
    config = federation.config()
    with scripted_federation.task_identity(), RunFolder.open(config) as run:
        run.finish(federate(SiteGrid(), config, on_round=lambda finished: None))
    write_report(run.path)
    return run.path
