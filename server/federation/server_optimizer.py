"""The server's optimiser: a round's aggregated update becomes new global parameters. Pure functions of arrays."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared_model.config.choices import StrategyName
from shared_model.config.server_sections import StrategyConfig
from shared_model.network.named_arrays import Float32Array, Parameters, add, difference, scale, zeros_like


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What the server carries from round to round."""

    parameters: Parameters
    first_moment: Parameters
    second_moment: Parameters
    average: Parameters
    """Mean of the parameters after each of the last rounds; before averaging begins, the parameters themselves."""
    num_averaged: int
    """Rounds in ``average``."""

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> "ServerState":
        """Return the state before the first round: the initial parameters, and moments of zero."""
        zeros = zeros_like(parameters)
        return cls(parameters=parameters, first_moment=zeros, second_moment=zeros, average=parameters, num_averaged=0)


def apply_update(
    state: ServerState, update: Mapping[str, Float32Array], strategy: StrategyConfig, *, is_averaged: bool
) -> ServerState:
    """Return the state after one round.

    ``fedavg``, ``fedprox`` and ``one_shot`` add the update; ``fedavgm`` adds a velocity (Hsu et al. 2019, Alg. 1);
    ``fedadam`` divides the velocity by the root of its second moment (Reddi et al. 2021, Alg. 2).

    Args:
        state: what the last round left; it is not changed.
        update: the aggregated update, with the names and shapes of ``state.parameters``.
        strategy: name and constants of the optimiser.
        is_averaged: whether the new parameters enter ``ServerState.average``.

    Raises:
        ValueError: ``update`` has other names or shapes.
    """
    first, second = state.first_moment, state.second_moment
    step: Parameters = update
    if strategy.name is StrategyName.FEDAVGM:
        first = step = add(scale(first, strategy.momentum), update)
    elif strategy.name is StrategyName.FEDADAM:
        first = _moving_average(first, update, strategy.momentum)
        squares = {name: np.square(array) for name, array in update.items()}
        second = _moving_average(second, squares, strategy.second_momentum)
        roots = {name: np.sqrt(second[name]).astype(np.float32) for name in second}
        step = {name: first[name] / (roots[name] + np.float32(strategy.adaptivity)) for name in first}
    parameters = add(state.parameters, scale(step, strategy.server_learning_rate))
    average, num_averaged = parameters, 0
    if is_averaged:
        num_averaged = state.num_averaged + 1
        change = scale(difference(parameters, state.average), 1 / num_averaged)
        average = add(state.average, change) if state.num_averaged else parameters
    return ServerState(
        parameters=parameters, first_moment=first, second_moment=second, average=average, num_averaged=num_averaged
    )


def _moving_average(old: Parameters, new: Parameters, decay: float) -> dict[str, Float32Array]:
    return add(scale(old, decay), scale(new, 1 - decay))
