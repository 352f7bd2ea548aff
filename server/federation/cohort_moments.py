"""A linear head in one exchange: the sum of all training patients' moments, and the ridge regression of it.

A site may lie about its sum. As with the other sums (``server.federation.cohort_sums``) none weighs more than in
training, and one that is longer than any honest one is refused. There is one round only, so that no agreement over
rounds can be asked for: a liar of three can turn the head (docs/limits.md).
"""

import math
from collections.abc import Sequence

import numpy as np
from flwr.serverapp import Grid

from server.evaluation.ridge_head import as_logits, ridge_weights
from server.federation import exchange
from server.federation.cohort_sums import Check, site_factors
from server.federation.exchange import Exchange
from server.federation.honest_lengths import MOST_PER_DECLARED, longest_noise, plan_for
from shared_model.config.choices import PrivacyMode
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import ProtocolError
from shared_model.messages import Request, TrainReply
from shared_model.messages.types import MOMENT_SUM, MOMENTS
from shared_model.network.named_arrays import Float32Array
from shared_model.privacy.patient_moments import Moments, num_moments


def fitted_head(
    grid: Grid, request: Request, nodes: Sequence[int], *, check: Check
) -> tuple[dict[str, Float32Array], Exchange[TrainReply]]:
    """Return the parameters of the network whose head is fitted to the training patients of all sites.

    Args:
        grid: reaches the sites.
        request: of the one round of training; its one trained array is the head's weights.
        nodes: Flower's ids of the sites' connections.
        check: see ``exchange.sums``.

    Raises:
        RoundError: too few valid replies.
    """
    config = request.config
    ((name, before),) = request.parameters.items()
    width = before.size

    def check_length(reply: TrainReply) -> None:
        """Refuse what no patients of this number can add up to."""
        check(reply)
        longest = _longest_sum(config, reply.num_patients_declared, width)
        length = float(np.linalg.norm(reply.update[MOMENT_SUM].astype(np.float64)))
        if not length <= longest:
            raise ProtocolError(f"Expected a sum of moments no longer than {longest:.4g}, got {length:.4g}.")

    expected = {MOMENT_SUM: np.zeros(num_moments(width), np.float32)}
    found = exchange.sums(grid, request, nodes, message_type=MOMENTS, expected=expected, check=check_length)
    sizes = [reply.num_patients_declared for reply in found.replies]
    factors = site_factors(sizes, config.strategy)
    total = np.zeros(num_moments(width))
    for factor, reply in zip(factors, found.replies, strict=True):
        total += factor * reply.update[MOMENT_SUM].astype(np.float64)
    moments = Moments.from_vector(total, width=width)
    num_patients = float(np.dot(factors, sizes))
    stds = [factor * _noise_std(config, size) for factor, size in zip(factors, sizes, strict=True)]
    weights = ridge_weights(moments, noise_std=math.hypot(*stds), num_patients=num_patients)
    logits = as_logits(weights, moments, num_patients=num_patients)
    return {name: np.array(logits, dtype=np.float32).reshape(before.shape)}, found


def _noise_std(config: ExperimentConfig, num_patients_declared: int) -> float:
    """Return the standard deviation of the noise in each entry of a site's sum; 0 without privacy."""
    if config.privacy.mode is PrivacyMode.OFF:
        return 0.0
    return plan_for(config, num_patients_declared).noise_multiplier


def _longest_sum(config: ExperimentConfig, num_patients_declared: int, width: int) -> float:
    """Return the length that an honest sum exceeds with probability ``FAILURE_PROBABILITY`` at most.

    A patient adds a vector no longer than 1.
    """
    noise = _noise_std(config, num_patients_declared) * longest_noise(num_moments(width))
    # More than rounding and the sites' margin on the noise add.
    return 1.001 * (MOST_PER_DECLARED * num_patients_declared + noise)
