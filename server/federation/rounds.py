"""A whole training: rounds of exchange and aggregation, each followed by an evaluation of the global network."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.serverapp import Grid

from server.evaluation.global_evaluation import GlobalEvaluation, GlobalEvaluator
from server.evaluation.site_histograms import added
from server.federation import aggregation as combination
from server.federation import exchange as strategy
from server.federation.checkpoints import Checkpoint, SiteState, read_checkpoint, write_checkpoint
from server.federation.server_optimizer import ServerState, apply_update
from server.results.document import RoundResult
from shared_model.config.choices import EvaluationPrivacy
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import RoundError
from shared_model.messages import EvaluateReply, Request, TrainReply
from shared_model.network import parameters as named
from shared_model.network.parameters import Parameters


@dataclass(frozen=True, kw_only=True)
class RoundSummary:
    """One finished round."""

    server_round: int
    evaluation: GlobalEvaluation | None
    """None where nobody's test lesions were scored this round."""
    sites: Mapping[str, SiteState]
    num_sites: int
    """Sites whose update was aggregated."""
    failures: tuple[str, ...]
    seconds: float

    @property
    def epsilon(self) -> float | None:
        """The largest epsilon that any site has spent; None when privacy is off."""
        spent = [site.privacy.epsilon for site in self.sites.values() if site.privacy is not None]
        return max(spent, default=None)

    @property
    def result(self) -> RoundResult:
        """The round as the results have it."""
        evaluation = self.evaluation
        return RoundResult(
            round=self.server_round,
            auroc=None if evaluation is None else evaluation.auroc,
            sensitivity=None if evaluation is None else evaluation.sensitivity,
            specificity=None if evaluation is None else evaluation.specificity,
            threshold=None if evaluation is None else evaluation.threshold,
            epsilon=self.epsilon,
            num_sites=self.num_sites,
            failures=len(self.failures),
            seconds=round(self.seconds, 3),
        )


Observer = Callable[[RoundSummary], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished training."""

    parameters: Parameters
    constants: Parameters
    rounds: tuple[RoundResult, ...]
    last: RoundSummary


def federate(grid: Grid, config: ExperimentConfig, *, observe: Observer) -> Outcome:
    """Train for ``config.training.num_rounds`` rounds and return the final network.

    After each round but the last the state is written to ``config.run.dir``; a run that finds one there goes on from
    it.

    Args:
        grid: reaches the sites.
        config: the experiment; sites receive it with every request and check it.
        observe: called with every finished round.

    Raises:
        RoundError: too few sites, too few valid replies, or a non-finite aggregate.
        DataError: the server's own test file cannot be read.
        ConfigError: the folder holds the state of another run.
    """
    evaluator, folder = GlobalEvaluator.open(config), Path(config.run.dir)
    reached = read_checkpoint(folder, config)
    if reached is None:
        reached = Checkpoint(state=ServerState.start(evaluator.initial_parameters), rounds=(), sites={})
    first_round = len(reached.rounds) + 1
    for server_round in range(first_round, config.training.num_rounds + 1):
        state = reached.state
        started = time.monotonic()
        # The round after all took part waits for all, and so does the first one after a start or a resume. Later, a
        # site that is away holds nobody up; it is asked again as soon as it is back.
        for_all = server_round == first_round or reached.rounds[-1].num_sites == len(config.federation.sites)
        nodes = strategy.wait_for_sites(grid, config.federation, for_all=for_all)
        request = Request(
            config=config, server_round=server_round, parameters=state.parameters, constants=evaluator.constants
        )
        combined = combination.begin(config.strategy)
        trained = strategy.train(grid, request, nodes, collect=combined)
        state = _apply(state, combined.result(), request)
        if server_round == config.training.num_rounds:
            state = dataclasses.replace(state, average=evaluator.recalibrated(state.average))
        evaluated: strategy.Exchange[EvaluateReply] = strategy.Exchange(replies=(), failures=())
        if _sites_evaluate(config, server_round):
            request = Request(
                config=config, server_round=server_round, parameters=state.average, constants=evaluator.constants
            )
            evaluated = strategy.evaluate(grid, request, nodes)
        sites = _update_sites(reached.sites, trained, evaluated)
        summary = RoundSummary(
            server_round=server_round,
            evaluation=_evaluate(evaluator, state.average, evaluated.replies),
            sites=sites,
            num_sites=len(trained.replies),
            failures=trained.failures + evaluated.failures,
            seconds=time.monotonic() - started,
        )
        reached = Checkpoint(state=state, rounds=(*reached.rounds, summary.result), sites=sites)
        if server_round < config.training.num_rounds:
            write_checkpoint(folder, reached, config)
        observe(summary)
    return Outcome(parameters=reached.state.average, constants=evaluator.constants, rounds=reached.rounds, last=summary)


def _apply(state: ServerState, update: Parameters, request: Request) -> ServerState:
    config = request.config
    first_averaged = config.training.num_rounds * (1 - config.strategy.average_last_fraction)
    state = apply_update(state, update, config.strategy, averages=request.server_round > first_averaged)
    if not named.is_finite(state.parameters):
        raise RoundError(f"Expected finite parameters after round {request.server_round}; lower the learning rates.")
    return state


def _update_sites(
    sites: Mapping[str, SiteState],
    trained: strategy.Exchange[TrainReply],
    evaluated: strategy.Exchange[EvaluateReply],
) -> dict[str, SiteState]:
    tests = {name: site.test for name, site in sites.items()}
    tests |= {reply.site: reply.test for reply in evaluated.replies}
    updated = {
        name: SiteState(num_patients_declared=site.num_patients_declared, privacy=site.privacy, test=tests.get(name))
        for name, site in sites.items()
    }
    for reply in trained.replies:
        updated[reply.site] = SiteState(
            num_patients_declared=reply.num_patients_declared, privacy=reply.privacy, test=tests.get(reply.site)
        )
    return dict(sorted(updated.items()))


def _sites_evaluate(config: ExperimentConfig, server_round: int) -> bool:
    """Return whether sites score their own lesions this round: noisy histograms are bought once, for the last."""
    privacy = config.evaluation.privacy
    is_last = server_round == config.training.num_rounds
    return privacy is EvaluationPrivacy.EXACT or (privacy is EvaluationPrivacy.DP and is_last)


def _evaluate(
    evaluator: GlobalEvaluator, parameters: Parameters, replies: Sequence[EvaluateReply]
) -> GlobalEvaluation | None:
    test = added([reply.test for reply in replies]) if replies else None
    validation = added([reply.validation for reply in replies]) if replies else None
    return evaluator.evaluate(parameters, test=test, validation=validation)
