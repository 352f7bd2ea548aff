"""What a round costs with many sites, without training: messages, checks and aggregation, in this process.

The sites answer at once with an update of the right shape, through the real messages, grid, checks and sums. Time
and memory are measured in different rounds, since tracing memory takes time.
"""

import dataclasses
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from matplotlib.figure import Figure

from server.evaluation.global_model import GlobalModel
from server.federation import exchange
from server.federation.aggregators import new_aggregator
from server.report.plot_style import BLUE, FONT_SIZE, GREY, VERMILLION, save_png
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.messages import PrivacySpent, Request, TrainReply, pack_train_reply, unpack_request
from shared_model.network.named_arrays import Parameters
from simulations.federation.local_grid import LocalGrid

HEAD = "head"
"""The default network: a head on frozen features."""
_LARGE = "45 MB"
_LARGE_ARRAYS, _LARGE_ENTRIES = 11, 1_022_976
"""Arrays and the entries of each, float32: about the parameters of a ResNet-18."""
_LARGE_SITES = (3, 10)
_TARGET_SECONDS_PER_SITE = 0.005


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundCost:
    """Time and memory of one round of one federation."""

    network: str
    num_sites: int
    num_bytes: int
    """Of the parameters."""
    round_seconds: float
    """Median."""
    peak_bytes: int
    """Allocated at most at the same time for messages, replies and sums, sites' copies in flight included."""

    @property
    def seconds_per_site(self) -> float:
        """Time of the round shared by its sites."""
        return self.round_seconds / self.num_sites

    @property
    def meets_target(self) -> bool:
        """Whether a site of a small network costs little enough; no target stands for large ones."""
        return self.network != HEAD or self.seconds_per_site < _TARGET_SECONDS_PER_SITE


Progress = Callable[[str], None]


def measure_scale(
    num_sites: Sequence[int], *, num_repeats: int, with_large: bool, progress: Progress
) -> Iterator[RoundCost]:
    """Yield a row for each number of sites with the default network, and for a 45 MB one with few.

    Args:
        num_sites: each at least 1.
        num_repeats: rounds whose median counts, at least 1.
        with_large: measure the large network too.
        progress: called with what is measured next.
    """
    for count in num_sites:
        progress(f"{count} sites")
        config = _config(count)
        parameters = GlobalModel.from_config(config).initial_parameters
        yield _measure(HEAD, config, parameters, num_repeats=num_repeats)
    rng = np.random.default_rng(0)
    for count in _LARGE_SITES if with_large else ():
        progress(f"{count} sites, {_LARGE}")
        parameters = {f"w{i}": rng.random(_LARGE_ENTRIES, dtype=np.float32) for i in range(_LARGE_ARRAYS)}
        yield _measure(_LARGE, _config(count), parameters, num_repeats=num_repeats)


def write_scale(path: Path, rows: Sequence[RoundCost]) -> None:
    """Draw time and memory of the default network over the number of sites.

    Raises:
        ValueError: ``path`` does not end in ``.png``.
    """
    heads = [row for row in rows if row.network == HEAD]
    counts = [row.num_sites for row in heads]
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(counts, [1e3 * row.seconds_per_site for row in heads], "o-", color=BLUE)
    left.axhline(1e3 * _TARGET_SECONDS_PER_SITE, color=GREY, linestyle=":", label="target")
    left.set_ylabel("ms per site and round", fontsize=FONT_SIZE)
    left.legend(fontsize=FONT_SIZE - 1, frameon=False)
    right.plot(counts, [row.peak_bytes / 2**20 for row in heads], "s-", color=VERMILLION)
    right.set_ylabel("peak memory of a round, MiB", fontsize=FONT_SIZE)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("sites", fontsize=FONT_SIZE)
        axes.tick_params(labelsize=FONT_SIZE - 1)
        axes.spines[["top", "right"]].set_visible(False)
    save_png(figure, path)


def _measure(network: str, config: ExperimentConfig, parameters: Parameters, *, num_repeats: int) -> RoundCost:
    sites = config.federation.sites
    request = Request(config=config, server_round=1, parameters=parameters, constants={})
    with LocalGrid(_echo_app(sites), num_sites=len(sites), num_workers=config.federation.num_workers) as grid:
        _run_round(grid, request)
        seconds = [_run_round(grid, request) for _ in range(num_repeats)]
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        _run_round(grid, request)
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
    return RoundCost(
        network=network,
        num_sites=len(sites),
        num_bytes=sum(array.nbytes for array in parameters.values()),
        round_seconds=statistics.median(seconds),
        peak_bytes=peak,
    )


def _run_round(grid: LocalGrid, request: Request) -> float:
    start = time.perf_counter()
    aggregator = new_aggregator(request, {})
    exchange.train(grid, request, list(grid.get_node_ids()), aggregator=aggregator)
    aggregator.result()
    return time.perf_counter() - start


def _echo_app(sites: Sequence[str]) -> ClientApp:
    """Return an application of sites that send the parameters back as their update."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        request = unpack_request(message.content)
        reply = TrainReply(
            site=sites[int(str(context.node_config["partition-id"]))],
            server_round=request.server_round,
            update=request.parameters,
            num_patients_declared=10,
            privacy=PrivacySpent(epsilon=1.0, delta=1e-5, noise_multiplier=1.0),
        )
        return Message(pack_train_reply(reply), reply_to=message)

    return app


def _config(num_sites: int) -> ExperimentConfig:
    names = ",".join(f"site-{number}" for number in range(num_sites))
    return compose(
        [
            "preset=cbis_mass",
            "model.image_components=0",
            "data.root=.",
            f"federation.sites=[{names}]",
            f"federation.min_sites={num_sites}",
            # The updates are none that training could give.
            "strategy.max_update_norm=null",
        ]
    )
