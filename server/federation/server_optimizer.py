"""Weights of the sites, and a round's update -> new global parameters. Pure functions of arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared_model.config.choices import StrategyName
from shared_model.config.experiment import StrategyConfig
from shared_model.network import parameters as named
from shared_model.network.parameters import FloatArray, Parameters


def site_weights(num_patients: Sequence[int], max_site_weight: float) -> list[float]:
    """Return weights proportional to the declared patients, none above ``max_site_weight``, summing to 1.

    What a capped site loses goes to the others in proportion. Where the cap cannot hold (fewer sites than
    ``1 / max_site_weight``), all sites weigh the same.
    """
    sizes = np.asarray(num_patients, dtype=np.float64)
    if len(sizes) * max_site_weight <= 1:
        return [1.0 / len(sizes)] * len(sizes)
    capped = np.zeros(len(sizes), dtype=bool)
    while True:
        remaining = 1.0 - capped.sum() * max_site_weight
        weights = np.where(capped, max_site_weight, remaining * sizes / sizes[~capped].sum())
        above = weights > max_site_weight + 1e-12
        if not above.any():
            return [float(weight) for weight in weights]
        capped |= above


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What the server carries from round to round."""

    parameters: Parameters
    first_moment: Parameters
    second_moment: Parameters
    average: Parameters
    """Mean of the iterates of the last rounds; the parameters themselves before those begin."""
    num_averaged: int

    @classmethod
    def start(cls, parameters: Parameters) -> "ServerState":
        """Return the state before the first round."""
        zeros = named.zeros_like(parameters)
        return cls(parameters=parameters, first_moment=zeros, second_moment=zeros, average=parameters, num_averaged=0)


def apply_update(
    state: ServerState, update: Mapping[str, FloatArray], strategy: StrategyConfig, *, averages: bool
) -> ServerState:
    """Return the state after one round.

    ``fedavg`` and ``fedprox`` add the update; ``fedavgm`` adds a velocity (Hsu et al. 2019, Alg. 1); ``fedadam``
    divides the velocity by the root of its second moment (Reddi et al. 2021, Alg. 2).

    Args:
        state: what the last round left.
        update: the weighted mean of the sites' updates.
        strategy: names and constants.
        averages: whether the new iterate enters the average.
    """
    first, second = state.first_moment, state.second_moment
    step: Parameters = update
    if strategy.name is StrategyName.FEDAVGM:
        first = step = named.add(named.scale(first, strategy.momentum), update)
    elif strategy.name is StrategyName.FEDADAM:
        first = _moving_average(first, update, strategy.momentum)
        squares = {name: np.square(array) for name, array in update.items()}
        second = _moving_average(second, squares, strategy.second_momentum)
        roots = {name: np.sqrt(second[name]).astype(np.float32) for name in second}
        step = {name: first[name] / (roots[name] + np.float32(strategy.adaptivity)) for name in first}
    parameters = named.add(state.parameters, named.scale(step, strategy.server_learning_rate))
    average, num_averaged = parameters, 0
    if averages:
        num_averaged = state.num_averaged + 1
        moved = named.scale(named.difference(parameters, state.average), 1 / num_averaged)
        average = named.add(state.average, moved) if state.num_averaged else parameters
    return ServerState(
        parameters=parameters, first_moment=first, second_moment=second, average=average, num_averaged=num_averaged
    )


def _moving_average(old: Parameters, new: Parameters, decay: float) -> dict[str, FloatArray]:
    return named.add(named.scale(old, decay), named.scale(new, 1 - decay))
