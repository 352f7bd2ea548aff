"""The server's Flower app: compose the experiment from its overrides, federate, write the run folder."""

import logging
import shlex

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.federation import RoundSummary, federate
from server.run_folder import RunFolder
from shared_model.config import compose
from shared_model.errors import ConfigError, FederatedMammographyError

logger = logging.getLogger(__name__)

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment of the run configuration ``overrides``, as ``flwr run . --run-config`` gives it."""
    overrides = context.run_config.get("overrides", "")
    if not isinstance(overrides, str):
        raise ConfigError(f"Expected run configuration overrides={overrides!r} to be a string of Hydra overrides.")
    config = compose(shlex.split(overrides))
    folder = RunFolder.begin(config)
    try:
        outcome = federate(grid, config, observe=_log)
    except FederatedMammographyError as error:
        folder.fail(str(error))
        raise
    folder.finish(outcome)
    logger.info("Results in %s", config.run.dir)


def _log(summary: RoundSummary) -> None:
    figures = summary.evaluation
    logger.info(
        "Round %d: AUC %s, sensitivity %s, %d sites, epsilon %s",
        summary.server_round,
        None if figures is None else figures.auroc,
        None if figures is None else figures.sensitivity,
        summary.num_sites,
        summary.epsilon,
    )
