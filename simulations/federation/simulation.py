"""A whole federation on this machine, from data to results."""

import dataclasses
import importlib.util
import logging
import os

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from rich.console import Console

from client.app import app as client_app
from client.site import simulated_ledger
from server.federation.rounds import FinishedTraining, RoundCallback, federate
from server.report.html_report import write_report
from server.report.run_folder import RunFolder
from server.results.document import Results
from shared_model.config.choices import Backend
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import ConfigError, FederatedMammographyError
from shared_model.system.processes import FLOWER_ENVIRONMENT
from simulations.federation.display import SimulationDisplay
from simulations.federation.local_grid import LocalGrid
from simulations.federation.prepare import prepare
from simulations.federation.privacy_reports import write_privacy_reports


def simulate(config: ExperimentConfig, console: Console) -> Results:
    """Run the whole simulation and return what was written to the run folder.

    Raises:
        FederatedMammographyError: with one line for the person who started it.
    """
    if config.federation.backend is Backend.RAY:
        _require_ray()
    with RunFolder.open(config) as folder:
        with SimulationDisplay(config, console) as display:
            prepared = prepare(config, on_progress=display.on_progress)
            display.on_prepared(prepared)
            run = _run_ray if config.federation.backend is Backend.RAY else _run_local
            outcome = run(prepared.config, lambda summary: display.on_round(summary.result))
        results = dataclasses.replace(folder, config=prepared.config).finish(outcome)
        ledgers = {site: simulated_ledger(prepared.config, site) for site in prepared.config.federation.sites}
        write_privacy_reports(ledgers, folder.path / "privacy")
        write_report(folder.path)
    return results


def _require_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("Expected ray with federation=ray; install it with pip install 'federated-mammography[ray]'.")


def _run_local(config: ExperimentConfig, on_round: RoundCallback) -> FinishedTraining:
    federation = config.federation
    with LocalGrid(client_app, num_sites=len(federation.sites), num_workers=federation.num_workers) as grid:
        return federate(grid, config, on_round=on_round)


def _run_ray(config: ExperimentConfig, on_round: RoundCallback) -> FinishedTraining:
    """Run the same apps under Flower's Ray simulation."""
    os.environ |= {**FLOWER_ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0"}
    from flwr.simulation import run_simulation  # noqa: PLC0415, imports Ray, an extra

    # Flower sets up its own log with every detail, and the display already says what matters.
    logging.getLogger("flwr").setLevel(logging.ERROR)
    finished: list[FinishedTraining] = []
    failed: list[FederatedMammographyError] = []
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, _context: Context) -> None:
        try:
            finished.append(federate(grid, config, on_round=on_round))
        except FederatedMammographyError as error:
            failed.append(error)

    run_simulation(
        server_app,
        client_app,
        num_supernodes=len(config.federation.sites),
        verbose_logging=False,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    if failed:
        raise failed[0]
    return finished[0]
