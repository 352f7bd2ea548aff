"""A linear head in one exchange: the sum of all training patients' moments, and the ridge regression of it.

A site may lie about its sum. One that is longer than any honest one, or no moments of anybody, is refused, and none
weighs more than in training.
With ``guarded`` and three sites or more none counts for more than the median length of both moments for each declared
patient, so that of three one that sends its sum negated is outweighed. There is one round only, in which noise hides
who disagrees: a site that knows the others' patients can still do harm (docs/limits.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flwr.serverapp import Grid

from server.evaluation.ridge_head import as_logits, ridge_weights
from server.federation import exchange
from server.federation.aggregation import Aggregate
from server.federation.cohort_sums import Check, site_factors
from server.federation.exchange import Exchange
from server.federation.honest_lengths import FAILURE_PROBABILITY, longest_noise, plan_for
from server.federation.median_length import FEWEST_TO_JUDGE, far_longer, name_far, shortening
from server.federation.secure_sums import OpenedSum, SumOfSites, secure_sum
from shared_model.config.choices import Aggregation, PrivacyMode
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import ProtocolError
from shared_model.messages import Request, TrainReply
from shared_model.messages.types import MOMENT_SUM, MOMENTS
from shared_model.metrics.counts import FloatArray
from shared_model.network.named_arrays import Float32Array
from shared_model.privacy.patient_moments import SECOND_WEIGHT, Moments, noise_edge, num_moments
from shared_model.secure_sum.sum_grid import MOST_PER_DECLARED

_ROUNDING = 1e-3
"""More than float32 takes from an eigenvalue, for each patient."""


def fitted_head(
    grid: Grid, request: Request, nodes: Sequence[int], *, check: Check
) -> tuple[Aggregate, Exchange[TrainReply]]:
    """Return the update to the head that fits the training patients of all sites.

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
    if config.federation.secure_sum:
        opened = _opened_moments(grid, request, nodes, num_moments(width), check=check)
        everybody = _SiteSum(
            site="all", moments=opened.total, num_patients=opened.num_patients, noise_std=opened.noise_std
        )
        weights = _fit([everybody], np.ones(1), width)
        return _update(name, before, weights), opened.replies

    def check_sum(reply: TrainReply) -> None:
        """Refuse what no patients of this number can add up to."""
        check(reply)
        vector, num_patients = reply.update[MOMENT_SUM].astype(np.float64), reply.num_patients_declared
        longest = _longest_sum(config, num_patients, width)
        length = float(np.linalg.norm(vector))
        # Written so that NaN fails.
        if not length <= longest:
            raise ProtocolError(f"Expected a sum of moments no longer than {longest:.4g}, got {length:.4g}.")
        _require_possible(Moments.from_vector(vector, width=width), num_patients, _noise_std(config, num_patients))

    expected = {MOMENT_SUM: np.zeros(num_moments(width), np.float32)}
    found = exchange.sums(grid, request, nodes, message_type=MOMENTS, expected=expected, check=check_sum)
    sums = [
        _SiteSum(
            site=reply.site,
            moments=reply.update[MOMENT_SUM].astype(np.float64),
            num_patients=reply.num_patients_declared,
            noise_std=_noise_std(config, reply.num_patients_declared),
        )
        for reply in found.replies
    ]
    factors = np.array(site_factors([site.num_patients for site in sums], config.strategy))
    outliers: tuple[str, ...] = ()
    if config.strategy.aggregation is Aggregation.GUARDED and len(sums) >= FEWEST_TO_JUDGE:
        scales, outliers = _median_scales(sums, width)
        factors = factors * scales
    weights = _fit(sums, factors, width)
    return _update(name, before, weights, outliers), found


def _opened_moments(grid: Grid, request: Request, nodes: Sequence[int], num_values: int, *, check: Check) -> OpenedSum:
    noise_multiplier = plan_for(request.config, 1).noise_multiplier
    what = SumOfSites(message_type=MOMENTS, sensitivity=1.0, noise_multiplier=noise_multiplier, num_values=num_values)
    return secure_sum(grid, request, nodes, what, check=check)


def _update(name: str, before: Float32Array, weights: FloatArray, outliers: tuple[str, ...] = ()) -> Aggregate:
    return Aggregate(update={name: weights.astype(np.float32).reshape(before.shape) - before}, outliers=outliers)


@dataclass(frozen=True, kw_only=True)
class _SiteSum:
    """What one site sent, and what is known of it."""

    site: str
    moments: FloatArray
    """``(M,)``."""
    num_patients: int
    """As declared."""
    noise_std: float
    """In each entry; 0 without privacy."""


def _fit(sums: Sequence[_SiteSum], factors: FloatArray, width: int) -> FloatArray:
    """Return the weights ``(W,)`` fitted to the sites' sums, each times its factor."""
    total = np.zeros(num_moments(width))
    for factor, site in zip(factors, sums, strict=True):
        total += factor * site.moments
    moments = Moments.from_vector(total, width=width)
    num_patients = float(sum(factor * site.num_patients for factor, site in zip(factors, sums, strict=True)))
    noise_std = math.hypot(*(factor * site.noise_std for factor, site in zip(factors, sums, strict=True)))
    weights = ridge_weights(moments, noise_std=noise_std, num_patients=num_patients)
    return as_logits(weights, moments, num_patients=num_patients)


def _median_scales(sums: Sequence[_SiteSum], width: int) -> tuple[FloatArray, tuple[str, ...]]:
    """Return what makes no site's moments longer, for each patient, than their median, and who was far longer.

    Both moments of a site are scaled alike: it then weighs less in the regression, and stays one.
    """
    sizes, stds = (np.array(values) for values in zip(*((s.num_patients, s.noise_std) for s in sums), strict=True))
    moments = np.stack([site.moments for site in sums])
    scales, is_far = np.ones(len(sums)), np.zeros(len(sums), dtype=bool)
    for part in (moments[:, :-width], moments[:, -width:]):
        lengths, noise = np.linalg.norm(part, axis=1) / sizes, stds * np.sqrt(part.shape[1]) / sizes
        np.minimum(scales, shortening(lengths), out=scales)
        is_far |= far_longer(lengths, noise)
    return scales, name_far([site.site for site in sums], is_far, "moments", "were")


def _noise_std(config: ExperimentConfig, num_patients_declared: int) -> float:
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


def _require_possible(moments: Moments, num_patients_declared: int, noise_std: float) -> None:
    """Check that noise can have made the moments of those that so many patients can have.

    With labels y of 1 and -1 the second moments S and the cross moments c are parts of ((S, c), (c^T, m)), a sum of
    squares of vectors (x, y), where m <= 2 n for ``n`` patients declared. So that matrix has no negative eigenvalue,
    and neither has it with 2 n in the place of m. Noise of deviation s in the moments is part of a Gaussian orthogonal
    ensemble of one row more, as ``SECOND_WEIGHT`` is below sqrt(1/2). Its largest eigenvalue is ``noise_edge`` at most
    on average (Davidson and Szarek 2001, Theorem II.11), and moves by s / ``SECOND_WEIGHT`` at most where the noise
    moves by s: so it exceeds the average by t with probability exp(-(t ``SECOND_WEIGHT`` / s)^2 / 2) at most.

    Raises:
        ProtocolError: it cannot, which happens to an honest site with probability ``FAILURE_PROBABILITY`` at most.
    """
    width, most = len(moments.cross), float(MOST_PER_DECLARED * num_patients_declared)
    whole = np.block([[moments.second, moments.cross[:, None]], [moments.cross[None], np.full((1, 1), most)]])
    doubts = math.sqrt(-2 * math.log(FAILURE_PROBABILITY))
    noise = noise_edge(noise_std, width + 1) + doubts * noise_std / SECOND_WEIGHT
    least, lowest = float(np.linalg.eigvalsh(whole)[0]), -1.001 * noise - _ROUNDING * most
    if not least >= lowest:
        raise ProtocolError(
            f"Expected moments that are squares of {num_patients_declared} declared patients, with eigenvalues of at "
            f"least {lowest:.4g} (noise alone), got {least:.4g}."
        )
