"""A whole training: in every round sites train, their updates are aggregated, and the global network is evaluated."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.serverapp import Grid

from server.evaluation.global_model import GlobalMetrics, GlobalModel
from server.evaluation.histogram_calibration import USUAL_SCALING, calibrate
from server.evaluation.training_histogram import write_training_histogram
from server.federation import exchange
from server.federation.aggregators import new_aggregator
from server.federation.agreement import STRANGER, Agreement
from server.federation.checkpoints import Checkpoint, SiteState, Underway, read_checkpoint, write_checkpoint
from server.federation.claims import check_claims
from server.federation.cohort_moments import fitted_head
from server.federation.cohort_sums import mean_direction, training_histogram
from server.federation.server_optimizer import ServerState, apply_update
from server.federation.site_evaluation import evaluate_at_sites
from server.federation.summed_update import summed_update
from server.federation.witnesses import Witnesses, joined, observe
from server.results.document import RoundResult
from shared_model.config.choices import EvaluationPrivacy
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import ConfigError, RoundError
from shared_model.messages import EvaluateReply, Histogram, Request, TrainReply
from shared_model.network.named_arrays import Parameters, is_finite
from shared_model.reference.reference_file import Reference


@dataclass(frozen=True, kw_only=True)
class FinishedRound:
    """One finished round."""

    server_round: int
    """From 1."""
    metrics: GlobalMetrics | None
    """Of the global network after the round; None where nobody's test lesions were scored this round."""
    sites: Mapping[str, SiteState]
    num_sites: int
    """Sites whose update was aggregated."""
    failures: tuple[str, ...]
    """Why other sites gave no valid reply."""
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The same for training alone by site, where it is known whose they are."""
    warnings: tuple[str, ...]
    """Sites whose ledger does not continue from what it showed before."""
    outliers: tuple[str, ...]
    """Sites whose update stood out, and what was done about it."""
    witnesses: Witnesses
    """All that sites have shown of their ledgers so far."""
    seconds: float

    @property
    def epsilon(self) -> float | None:
        """The largest price of the run so far at any site; None when privacy is off."""
        spent = [site.privacy.epsilon for site in self.sites.values() if site.privacy is not None]
        return max(spent, default=None)

    @property
    def result(self) -> RoundResult:
        """The round as the results document holds it."""
        metrics = self.metrics
        return RoundResult(
            round=self.server_round,
            auroc=None if metrics is None else metrics.auroc,
            sensitivity=None if metrics is None else metrics.sensitivity,
            specificity=None if metrics is None else metrics.specificity,
            threshold=None if metrics is None else metrics.threshold,
            epsilon=self.epsilon,
            num_sites=self.num_sites,
            failures=len(self.failures),
            warnings=self.warnings,
            outliers=self.outliers,
            seconds=round(self.seconds, 3),
        )


RoundCallback = Callable[[FinishedRound], None]


@dataclass(frozen=True, kw_only=True)
class FinishedTraining:
    """What a training ends with."""

    parameters: Parameters
    """Of the final network: the trainable ones."""
    constants: Parameters
    """Of the final network: those that are not trained."""
    reference: Reference | None
    """Numbers of public lesions that it began with, if any."""
    rounds: tuple[RoundResult, ...]
    """All rounds, those before a resumption included."""
    last: FinishedRound


def federate(
    grid: Grid, config: ExperimentConfig, *, on_round: RoundCallback, witnesses: Witnesses | None = None
) -> FinishedTraining:
    """Train for ``config.training.num_rounds`` rounds and return the final network.

    After every round but the last a checkpoint is written to ``config.run.dir``, and in the last one before a request
    that costs privacy. A run that finds a checkpoint there goes on after it.

    Args:
        grid: reaches the sites.
        config: the experiment; sites receive it with every request and check it.
        on_round: called with every finished round, after its checkpoint is written.
        witnesses: what earlier runs have seen of the sites' ledgers.

    Raises:
        RoundError: too few sites, too few valid replies, or parameters that are not finite.
        DataError: the server's own test file cannot be read.
        ConfigError: the folder holds the checkpoint of another run, or numbers of public lesions as ``load_shipped``.
    """
    model, folder = GlobalModel.from_config(config), Path(config.run.dir)
    checkpoint = read_checkpoint(folder, config)
    if checkpoint is None:
        checkpoint = _begin(grid, config, model, witnesses or {})
        if config.has_private_mean:
            # Asked for again, with a site more or less, it would give other constants, and every round after it anew.
            write_checkpoint(folder, checkpoint, config)
    _require_same_reference(model, checkpoint)
    model.set_constants(checkpoint.constants)
    checkpoint = dataclasses.replace(checkpoint, witnesses=joined(witnesses or {}, checkpoint.witnesses))
    first_round, last_round = len(checkpoint.rounds) + 1, config.training.num_rounds
    for server_round in range(first_round, last_round + 1):
        checkpoint, finished = _next_round(grid, config, model, checkpoint, is_first=server_round == first_round)
        if server_round < last_round:
            write_checkpoint(folder, checkpoint, config)
        on_round(finished)
    return FinishedTraining(
        parameters=checkpoint.state.average,
        constants=model.constants,
        reference=model.reference,
        rounds=checkpoint.rounds,
        last=finished,
    )


def _require_same_reference(model: GlobalModel, checkpoint: Checkpoint) -> None:
    """Check that the file that the run began with is the one that its results will name.

    Raises:
        ConfigError: another file has taken its place.
    """
    if checkpoint.reference != _digest(model):
        raise ConfigError(
            "Expected the file of model.feature_constants=shipped that the run began with, SHA-256 "
            f"{checkpoint.reference}, got {_digest(model)}; put it back or name another run.dir."
        )


def _digest(model: GlobalModel) -> str | None:
    return None if model.reference is None else model.reference.file_sha256


def _next_round(
    grid: Grid, config: ExperimentConfig, model: GlobalModel, checkpoint: Checkpoint, *, is_first: bool
) -> tuple[Checkpoint, FinishedRound]:
    """Do what is left of the next round, the first since a start or a resumption if ``is_first``."""
    started, folder = time.monotonic(), Path(config.run.dir)
    # The first round after a start or a resumption waits for all sites, and so does a round after one in which all took
    # part. While a site is away, rounds go on with a quorum; once it is back, it takes part again.
    for_all = is_first or checkpoint.rounds[-1].num_sites == len(config.federation.sites)
    nodes = exchange.wait_for_sites(grid, config.federation, for_all=for_all)
    if is_first:
        _require_simulated(config, len(nodes))
    is_last = len(checkpoint.rounds) + 1 == config.training.num_rounds
    if not checkpoint.underway.num_sites:
        checkpoint = _train(grid, config, nodes, checkpoint)
        if is_last and _has_priced_end(config):
            write_checkpoint(folder, checkpoint, config)
    if is_last and not checkpoint.underway.is_final:
        checkpoint = _finish(grid, nodes, model, checkpoint)
        if _has_priced_end(config):
            write_checkpoint(folder, checkpoint, config)
    return _evaluate(grid, nodes, model, checkpoint, started=started)


def _begin(grid: Grid, config: ExperimentConfig, model: GlobalModel, witnesses: Witnesses) -> Checkpoint:
    """Return the state before the first round of training: with the mean of the features, where the run has one."""
    state = ServerState.from_parameters(model.initial_parameters)
    begun = Checkpoint(
        state=state,
        constants=model.constants,
        rounds=(),
        sites={},
        witnesses=witnesses,
        reference=_digest(model),
    )
    if not config.has_private_mean:
        return begun
    nodes = exchange.wait_for_sites(grid, config.federation, for_all=True)
    _require_simulated(config, len(nodes))
    request = Request(config=config, server_round=0, parameters=state.parameters, constants=model.constants)
    claims = _Claims(request=request, sites={})
    direction, found = mean_direction(grid, request, nodes, check=claims.check)
    model.take_out(direction)
    sites = _update_sites({}, found.replies, {})
    return _observed(dataclasses.replace(begun, constants=model.constants, sites=sites), claims.made)


def _train(grid: Grid, config: ExperimentConfig, nodes: Sequence[int], checkpoint: Checkpoint) -> Checkpoint:
    """Return the state after the training of one round more, which is then under way."""
    state, constants = checkpoint.state, checkpoint.constants
    request = Request(
        config=config, server_round=len(checkpoint.rounds) + 1, parameters=state.parameters, constants=constants
    )
    claims = _Claims(request=request, sites=checkpoint.sites)
    if config.is_one_shot:
        aggregate, trained = fitted_head(grid, request, nodes, check=claims.check)
    elif config.federation.secure_sum:
        aggregate, trained = summed_update(grid, request, nodes, check=claims.check)
    else:
        aggregator = new_aggregator(request, {name: site.agreement for name, site in checkpoint.sites.items()})
        trained = exchange.train(grid, request, nodes, aggregator=aggregator, check=claims.check)
        aggregate = aggregator.result()
    underway = dataclasses.replace(
        checkpoint.underway,
        failures=trained.failures,
        reasons=trained.reasons,
        outliers=aggregate.outliers,
        num_sites=len(trained.replies),
    )
    after = dataclasses.replace(
        checkpoint,
        state=_apply(state, aggregate.update, request),
        sites=_update_sites(checkpoint.sites, trained.replies, aggregate.agreements),
        underway=underway,
    )
    return _observed(after, claims.made)


def _has_priced_end(config: ExperimentConfig) -> bool:
    """Return whether something costs privacy that is asked for after the last round of training."""
    return config.has_training_histogram or config.evaluation.privacy is EvaluationPrivacy.DP


def _finish(grid: Grid, nodes: Sequence[int], model: GlobalModel, checkpoint: Checkpoint) -> Checkpoint:
    """Make the scores of the last parameters probabilities, and choose the threshold if training patients do that."""
    config = model.config
    state, underway = checkpoint.state, dataclasses.replace(checkpoint.underway, is_final=True)
    if not config.has_training_histogram:
        state = dataclasses.replace(state, average=model.rescale_scores(state.average))
        return dataclasses.replace(checkpoint, state=state, underway=underway)
    parameters, server_round = model.rescaled(state.average, USUAL_SCALING), config.training.num_rounds + 1
    request = Request(config=config, server_round=server_round, parameters=parameters, constants=model.constants)
    claims = _Claims(request=request, sites=checkpoint.sites)
    histogram, found = training_histogram(grid, request, nodes, check=claims.check)
    write_training_histogram(Path(config.run.dir), histogram)
    calibration = calibrate(histogram, config.evaluation.target_sensitivity)
    final = dataclasses.replace(
        checkpoint,
        state=dataclasses.replace(state, average=model.rescaled(parameters, calibration.scaling)),
        sites=_update_sites(checkpoint.sites, found.replies, {}),
        underway=dataclasses.replace(
            underway, threshold=calibration.threshold, failures=underway.failures + found.failures
        ),
    )
    return _observed(final, claims.made)


def _evaluate(
    grid: Grid, nodes: Sequence[int], model: GlobalModel, checkpoint: Checkpoint, *, started: float
) -> tuple[Checkpoint, FinishedRound]:
    """Evaluate the round that is under way; return the state after it, and the round itself."""
    parameters, server_round = checkpoint.state.average, len(checkpoint.rounds) + 1
    request = Request(config=model.config, server_round=server_round, parameters=parameters, constants=model.constants)
    evaluated = evaluate_at_sites(grid, request, nodes)
    checkpoint = _observed(checkpoint, evaluated.replies)
    underway, sites = checkpoint.underway, _with_tests(checkpoint.sites, evaluated.tests)
    finished = FinishedRound(
        server_round=server_round,
        metrics=model.evaluate(
            parameters, test=evaluated.test, validation=evaluated.validation, threshold=underway.threshold
        ),
        sites=sites,
        num_sites=underway.num_sites,
        failures=underway.failures + evaluated.failures,
        reasons=underway.reasons,
        warnings=underway.warnings,
        outliers=underway.outliers,
        witnesses=checkpoint.witnesses,
        seconds=time.monotonic() - started,
    )
    rounds = (*checkpoint.rounds, finished.result)
    return dataclasses.replace(checkpoint, rounds=rounds, sites=sites, underway=Underway()), finished


def _observed(checkpoint: Checkpoint, replies: Sequence[TrainReply | EvaluateReply]) -> Checkpoint:
    """Return the same with the witnesses of ``replies``, and with a warning for each ledger that does not continue."""
    witnesses, warnings = observe(checkpoint.witnesses, replies)
    underway = dataclasses.replace(checkpoint.underway, warnings=checkpoint.underway.warnings + warnings)
    return dataclasses.replace(checkpoint, witnesses=witnesses, underway=underway)


@dataclass(frozen=True, kw_only=True)
class _Claims:
    """Checks what sites claim, and keeps it: a refused reply too is a witness of its site's ledger."""

    request: Request
    sites: Mapping[str, SiteState]
    made: list[TrainReply] = dataclasses.field(default_factory=list)

    def check(self, reply: TrainReply) -> None:
        """Keep what the reply says and refuse one that cannot be so; see ``check_claims``."""
        self.made.append(dataclasses.replace(reply, update={}))
        check_claims(reply, self.request, self.sites.get(reply.site))


def _require_simulated(config: ExperimentConfig, num_nodes: int) -> None:
    """Check that a simulation, whose nodes neither come nor go, has one for every site.

    Raises:
        RoundError: it has fewer; the message names the sites without one.
    """
    sites = config.federation.sites
    if config.federation.node_ids is None and num_nodes < len(sites):
        raise RoundError(
            f"Expected a node for each of {len(sites)} sites, {num_nodes} are there: {', '.join(sites[num_nodes:])} "
            f"would take no part; start {len(sites)} SuperNodes."
        )


def _apply(state: ServerState, update: Parameters, request: Request) -> ServerState:
    config = request.config
    last_not_averaged = config.training.num_rounds * (1 - config.strategy.average_last_fraction)
    is_averaged = request.server_round > last_not_averaged
    state = apply_update(state, update, config.strategy, is_averaged=is_averaged)
    if not is_finite(state.parameters):
        raise RoundError(f"Expected finite parameters after round {request.server_round}; lower the learning rates.")
    return state


def _update_sites(
    sites: Mapping[str, SiteState], replies: Sequence[TrainReply], agreements: Mapping[str, Agreement]
) -> dict[str, SiteState]:
    """Return what is known of every site after ``replies`` about its training patients."""
    updated = dict(sites)
    for reply in replies:
        known = sites.get(reply.site)
        updated[reply.site] = SiteState(
            num_patients_declared=reply.num_patients_declared,
            privacy=reply.privacy,
            test=None if known is None else known.test,
            agreement=agreements.get(reply.site, STRANGER if known is None else known.agreement),
        )
    return dict(sorted(updated.items()))


def _with_tests(sites: Mapping[str, SiteState], tests: Mapping[str, Histogram]) -> dict[str, SiteState]:
    """Return the same with the latest histogram of every site's test lesions, whichever round it came in."""
    return {name: dataclasses.replace(site, test=tests.get(name, site.test)) for name, site in sites.items()}
