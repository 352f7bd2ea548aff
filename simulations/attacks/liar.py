"""One hospital of several lies about its update and its size: what is left of the model, and whether it is named.

The federation is real: applications, ledgers, messages and checks. Only the reply of the liar is changed on its way:
its update is negated, negated and made longer, or filled with one number, and it declares as many patients as its
claims can have.
"""

import dataclasses
import enum
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.app import app as honest_app
from server.federation.rounds import FinishedTraining, federate
from shared_model.config.choices import Aggregation
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.messages import TrainReply, pack_train_reply, unpack_train_reply
from shared_model.messages.checked_values import MAX_PATIENTS
from shared_model.network.named_arrays import scale
from simulations.federation.local_grid import LocalGrid
from simulations.federation.prepare import prepare

_HUGE = 1e6
_FIVE = ("federation.sites=[A,B,C,D,E]", "federation.partition=iid", "federation.min_sites=5")
"""Five hospitals alike, for the rules that need so many."""
_OF_FIVE = 5
# No histograms of the sites, and noise that the seed alone decides, so that a table can be made again.
_FIXED = ("evaluation.privacy=none", "evaluation.bootstrap_resamples=100", "privacy.noise=seeded")


class Lie(enum.StrEnum):
    """What the liar does to its update."""

    NONE = "none"
    NEGATED = "negated"
    FIVEFOLD = "times -5"
    CONSTANT = "1e6 everywhere"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiarCase:
    """A federation in which one site lies, or none."""

    num_sites: int
    aggregation: Aggregation
    lie: Lie
    liar: str
    """Site; empty for none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiarRun:
    """What came of a case with one seed."""

    case: LiarCase
    seed: int
    auroc: float
    """Of the final network on the server's test lesions."""
    num_rounds_named: int
    """Rounds in which the liar was named; of any site where none lies."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiarResult:
    """What came of a case over all seeds."""

    case: LiarCase
    auroc: float
    """Mean."""
    least_auroc: float
    honest_auroc: float
    """Mean of the same federation without a liar."""
    share_of_rounds_named: float
    num_rounds: int

    @property
    def is_kept(self) -> bool:
        """Whether the lie costs no more AUC than one of three, or one of five, may cost."""
        return self.auroc >= self.honest_auroc - MOST_LOST[self.case.num_sites]


MOST_LOST = {3: 0.08, 5: 0.05}
"""AUC that one liar may cost, by the number of hospitals."""
Progress = Callable[[int, int], None]
"""Called with the number of runs done and the number in all."""


def cases(sites: Sequence[str]) -> list[LiarCase]:
    """Return the cases: each of three hospitals under the default rule, and one of five under each robust one."""
    three = [LiarCase(num_sites=3, aggregation=Aggregation.GUARDED, lie=Lie.NONE, liar="")]
    for lie in (Lie.NEGATED, Lie.FIVEFOLD, Lie.CONSTANT):
        three += [LiarCase(num_sites=3, aggregation=Aggregation.GUARDED, lie=lie, liar=site) for site in sites]
    rules = (Aggregation.GUARDED, Aggregation.MEDIAN, Aggregation.TRIMMED_MEAN, Aggregation.KRUM)
    five = [
        LiarCase(num_sites=5, aggregation=rule, lie=lie, liar="" if lie is Lie.NONE else "E")
        for rule in rules
        for lie in (Lie.NONE, Lie.NEGATED, Lie.FIVEFOLD)
    ]
    return [*three, *five]


def measure(
    overrides: Sequence[str], seeds: Sequence[int], *, progress: Progress, chosen: Sequence[LiarCase] | None = None
) -> Iterator[LiarRun]:
    """Yield a run of every case with every seed.

    Args:
        overrides: of the configuration, which must have three sites and a patient-level promise.
        seeds: of data, initial network and noise.
        progress: called after each run.
        chosen: the cases; all of ``cases`` by default.

    Raises:
        FederatedMammographyError: a run cannot be made.
    """
    chosen = cases(compose(overrides).federation.sites) if chosen is None else chosen
    done, total = 0, len(chosen) * len(seeds)
    for seed in seeds:
        for num_sites in sorted({case.num_sites for case in chosen}):
            more = (*_FIXED, f"seed={seed}", *(_FIVE if num_sites == _OF_FIVE else ()))
            with tempfile.TemporaryDirectory() as folder:
                config = _prepared([*overrides, *more], folder)
                for case in (case for case in chosen if case.num_sites == num_sites):
                    yield _run(config, case, seed)
                    done += 1
                    progress(done, total)


def summarised(runs: Sequence[LiarRun], num_rounds: int) -> list[LiarResult]:
    """Return one result per case, in the order of the runs, each beside the same federation without a liar."""
    by_case: dict[LiarCase, list[LiarRun]] = {}
    for run in runs:
        by_case.setdefault(run.case, []).append(run)
    means = {case: statistics.fmean(run.auroc for run in found) for case, found in by_case.items()}
    return [
        LiarResult(
            case=case,
            auroc=means[case],
            least_auroc=min(run.auroc for run in found),
            honest_auroc=means[dataclasses.replace(case, lie=Lie.NONE, liar="")],
            share_of_rounds_named=statistics.fmean(run.num_rounds_named for run in found) / num_rounds,
            num_rounds=num_rounds,
        )
        for case, found in by_case.items()
    ]


def lying_app(index: int, lie: Lie) -> ClientApp:
    """Return the sites' application, in which the site at ``index`` tells ``lie``; -1 for nobody."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        reply = honest_app(message, context)
        if context.node_config["partition-id"] != index or reply.has_error():
            return reply
        told = _told(unpack_train_reply(reply.content), lie)
        return Message(pack_train_reply(told), reply_to=message)

    return app


def _told(reply: TrainReply, lie: Lie) -> TrainReply:
    """Return the reply with the lie, and with the largest size that its claims can have."""
    update = reply.update
    if lie is Lie.NEGATED:
        update = scale(update, -1.0)
    elif lie is Lie.FIVEFOLD:
        update = scale(update, -5.0)
    elif lie is Lie.CONSTANT:
        update = {name: np.full_like(array, _HUGE) for name, array in update.items()}
    size = MAX_PATIENTS if reply.privacy is None else math.ceil(1 / reply.privacy.delta) - 1
    return dataclasses.replace(reply, update=update, num_patients_declared=size)


def _prepared(overrides: Sequence[str], folder: str) -> ExperimentConfig:
    config = compose(overrides)
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=folder))
    return prepare(config, on_progress=lambda *_: None).config


def _run(prepared: ExperimentConfig, case: LiarCase, seed: int) -> LiarRun:
    sites = prepared.federation.sites
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(
            prepared,
            run=dataclasses.replace(prepared.run, dir=folder),
            federation=dataclasses.replace(prepared.federation, ledger_dir=f"{folder}/ledgers"),
            strategy=dataclasses.replace(
                prepared.strategy,
                aggregation=case.aggregation,
                num_hostile=1 if case.aggregation in {Aggregation.TRIMMED_MEAN, Aggregation.KRUM} else 0,
            ),
        )
        index = sites.index(case.liar) if case.liar else -1
        with LocalGrid(
            lying_app(index, case.lie), num_sites=len(sites), num_workers=config.federation.num_workers
        ) as grid:
            training = federate(grid, config, on_round=lambda _: None)
    return LiarRun(case=case, seed=seed, auroc=_auroc(training), num_rounds_named=_rounds_named(training, case.liar))


def _auroc(training: FinishedTraining) -> float:
    metrics = training.last.metrics
    if metrics is None or metrics.auroc is None:
        raise ValueError("Expected test lesions of both classes at the server.")
    return metrics.auroc


def _rounds_named(training: FinishedTraining, liar: str) -> int:
    return sum(any(line.startswith(f"{liar} ") or not liar for line in entry.outliers) for entry in training.rounds)
