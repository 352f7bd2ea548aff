"""The update of a round in which the server sees only the sum of the sites' clipped gradients."""

from collections.abc import Callable, Sequence

import numpy as np
from flwr.app import MessageType
from flwr.serverapp import Grid

from server.federation.aggregation import Aggregate
from server.federation.exchange import Exchange
from server.federation.honest_lengths import plan_for
from server.federation.secure_sums import SumOfSites, secure_sum
from shared_model.messages import Request, TrainReply


def summed_update(
    grid: Grid, request: Request, nodes: Sequence[int], *, check: Callable[[TrainReply], None]
) -> tuple[Aggregate, Exchange[TrainReply]]:
    """Return the step that one site with all patients would take: every patient counts alike, wherever she is.

    Args:
        grid: reaches the sites.
        request: of a round of training, whose parameters the update is of.
        nodes: Flower's ids of the sites' connections.
        check: see ``exchange.sums``.

    Raises:
        RoundError: too few sites answered, or the sum is longer than an honest one.
    """
    training, plan = request.config.training, plan_for(request.config, 1)
    what = SumOfSites(
        message_type=MessageType.TRAIN,
        sensitivity=plan.max_grad_norm,
        noise_multiplier=plan.noise_multiplier,
        num_values=sum(array.size for array in request.parameters.values()),
    )
    opened = secure_sum(grid, request, nodes, what, check=check)
    mean = opened.total / (plan.sampling_rate * opened.num_patients)
    update, start = {}, 0
    for name, array in request.parameters.items():
        gradient = mean[start : start + array.size].reshape(array.shape) + training.weight_decay * array
        update[name] = (-training.learning_rate * gradient).astype(np.float32)
        start += array.size
    return Aggregate(update=update), opened.replies
