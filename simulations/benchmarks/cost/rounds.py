"""Rounds of a simulation of many sites in one process: the sites' real app, their tables, ledgers and training.

``simulations.benchmarks.many_sites`` measures the same round with sites that do nothing.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from client.app import app as client_app
from server.evaluation.global_model import GlobalModel
from server.federation import exchange
from server.federation.aggregators import new_aggregator
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.messages import Request
from shared_model.network.fusion import build_network
from shared_model.network.state import constants_state
from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import clinical_width
from simulations.benchmarks.child_process import in_child
from simulations.benchmarks.cost.parts import CostPart
from simulations.benchmarks.cost.step import Progress, Size, Step, measured
from simulations.federation.local_grid import LocalGrid

_PATIENTS_PER_SITE = 10
_HEADER = (
    "patient_id,label,split,finding_id,image_path,laterality,view,abnormality_type,breast_density,mass_shape,"
    "mass_margins,calc_type,calc_distribution,assessment,subtlety,age"
)


def measure_rounds(num_sites: Sequence[int], *, num_repeats: int, progress: Progress) -> Iterator[Step]:
    """Yield, for each number of sites, the first round, in which sites read their tables and begin ledgers, and others.

    Args:
        num_sites: each at least 1; a site has 10 patients, two views each, whose images nobody has.
        num_repeats: rounds after the first, at least 1, whose median counts.
        progress: called with what is measured next.
    """
    for count in num_sites:
        progress(f"rounds of {count} sites")
        yield from in_child(_play, count, num_repeats)


def _play(num_sites: int, num_repeats: int) -> list[Step]:
    torch.set_num_threads(1)
    size = Size(part=CostPart.ROUNDS, count=num_sites, unit="sites")
    with tempfile.TemporaryDirectory() as folder:
        config = _write_federation(Path(folder), num_sites, num_rounds=1 + num_repeats)
        network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
        parameters, constants = GlobalModel.from_config(config).initial_parameters, constants_state(network)
        requests = (
            Request(config=config, server_round=number, parameters=parameters, constants=constants)
            for number in range(1, 2 + num_repeats)
        )
        with LocalGrid(client_app, num_sites=num_sites, num_workers=1) as grid:

            def play_round() -> None:
                request = next(requests)
                aggregator = new_aggregator(request, {})
                exchange.train(grid, request, list(grid.get_node_ids()), aggregator=aggregator)
                aggregator.result()

            first = measured(size, "first round", play_round)
            return [first, measured(size, "round", play_round, num_repeats=num_repeats)]


def _write_federation(folder: Path, num_sites: int, *, num_rounds: int) -> ExperimentConfig:
    """Write the table of all sites and the roster, and return the configuration of a simulation over them."""
    rng, names = numpy_generator(0, "benchmark", "rounds"), [f"site-{number}" for number in range(num_sites)]
    rows, roster = [_HEADER], ["patient_id,site"]
    for patient in range(num_sites * _PATIENTS_PER_SITE):
        roster.append(f"P{patient:07d},{names[patient % num_sites]}")
        label, density, age = rng.integers(2), rng.integers(1, 5), rng.integers(35, 90)
        rows += [
            f"P{patient:07d},{label},train,1,,LEFT,{view},mass,{density},OVAL,SPICULATED,,,,,{age}"
            for view in ("CC", "MLO")
        ]
    (folder / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "sites.csv").write_text("\n".join(roster) + "\n", encoding="utf-8")
    return compose(
        [
            "preset=cbis_mass",
            # The mean of the features is another exchange, of which there is one in a run.
            "model.feature_constants=public",
            "strategy.max_update_norm=null",
            "data.source=manifest",
            f"data.root={folder}/table.csv",
            "data.roster=sites.csv",
            f"data.cache_dir={folder}/cache",
            f"run.dir={folder}/run",
            f"federation.sites=[{','.join(names)}]",
            f"federation.min_sites={num_sites}",
            "federation.round_timeout_seconds=36000",
            f"training.num_rounds={num_rounds}",
        ]
    )
