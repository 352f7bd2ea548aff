"""The server's Flower app: composes the configuration from the run's overrides, trains, and writes the run folder."""

import logging
from contextlib import suppress

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.federation.rounds import FinishedRound, federate
from server.federation.witnesses import WITNESSES_FILE, read_witnesses, write_witnesses
from server.report.html_report import write_report
from server.report.run_folder import RunFolder
from shared_model.config.composition import compose_received
from shared_model.config.constants_rule import constants_advice
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import config_fingerprint, source_fingerprint
from shared_model.errors import ConfigError, FederatedMammographyError
from shared_model.system.audit_log import AuditLog
from shared_model.system.peer_text import peer_text

logger = logging.getLogger(__name__)

AUDIT_FILE = "audit.jsonl"
"""In the run folder: the configuration begun with, every round, which replies were refused and why, how it ended."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment of the run configuration ``overrides``, as ``flwr run . --run-config`` gives it.

    It comes from whoever may submit runs, so that it sets plain values only; see ``compose_received``.
    """
    overrides = context.run_config.get("overrides", "")
    if not isinstance(overrides, str):
        raise ConfigError(f"Expected run configuration overrides={overrides!r} to be a string of Hydra overrides.")
    config = compose_received(overrides)
    with RunFolder.open(config) as folder:
        _run(grid, config, folder)


def _run(grid: Grid, config: ExperimentConfig, folder: RunFolder) -> None:
    audit, witnesses = AuditLog(folder.path / AUDIT_FILE), folder.path.parent / WITNESSES_FILE
    names = _ledger_names(config)
    audit.record("begun", config=config_fingerprint(config), source=source_fingerprint())

    def on_round(finished: FinishedRound) -> None:
        """Log the round, and record in the audit log who took part, who was refused and what gives cause for doubt."""
        _log(finished, config)
        for failure in finished.failures:
            audit.record("refused", round=finished.server_round, reason=peer_text(failure))
        for warning in finished.warnings:
            audit.record("warning", round=finished.server_round, reason=peer_text(warning))
        for outlier in finished.outliers:
            audit.record("outlier", round=finished.server_round, reason=peer_text(outlier))
        write_witnesses(witnesses, {names[site]: links for site, links in finished.witnesses.items()})
        audit.record("round", round=finished.server_round, sites=finished.num_sites, epsilon=finished.epsilon)

    try:
        before = read_witnesses(witnesses)
        seen = {site: before[name] for site, name in names.items() if name in before}
        folder.finish(federate(grid, config, on_round=on_round, witnesses=seen))
    except (FederatedMammographyError, OSError) as error:
        # Of a disk that is full nothing more can be written.
        with suppress(OSError):
            folder.fail(str(error))
            audit.record("failed", reason=peer_text(str(error)))
        raise
    audit.record("finished")
    try:
        write_report(folder.path)
    except FederatedMammographyError as error:
        # The run is finished all the same.
        logger.warning("No report: %s. fedmammo server report writes it.", error)
    logger.info("Results in %s", config.run.dir)


def _ledger_names(config: ExperimentConfig) -> dict[str, str]:
    """Return under which name the witnesses of every site's ledger are kept, beside the runs of other federations too.

    A site that is enrolled anew, as with the kits of another federation, has begun another ledger.
    """
    federation = config.federation
    nodes = federation.node_ids or [None] * len(federation.sites)
    return {
        site: site if node is None else f"{site} {node}" for site, node in zip(federation.sites, nodes, strict=True)
    }


def _log(finished: FinishedRound, config: ExperimentConfig) -> None:
    metrics = finished.metrics
    logger.info(
        "Round %d: AUC %s, sensitivity %s, %d sites, epsilon %s",
        finished.server_round,
        None if metrics is None else metrics.auroc,
        None if metrics is None else metrics.sensitivity,
        finished.num_sites,
        finished.epsilon,
    )
    # How many patients sites declare is not known before their first replies.
    advice = constants_advice(config, sum(site.num_patients_declared for site in finished.sites.values()))
    if finished.server_round == 1 and advice is not None:
        logger.warning("%s", advice)
