"""Sums over all sites' training patients: of their features before training, of their scores after it.

A site may lie about both. What it can reach is bounded by the same shares as in training: no site counts for more than
``strategy.max_site_share`` equal shares with ``guarded``, or ``max_site_weight`` with ``mean``, and all count alike
under a robust rule. A sum that is longer than any honest one, or a histogram that is farther from possible counts than
noise takes it, is refused. And unless the rule is ``mean``, no site's sum of features is longer than that of the one
in the middle: of three or more sites, one that lies turns the direction that is taken out, and does not choose it. It
can still move the threshold by counts of twice the patients that it declares (docs/limits.md).
"""

from collections.abc import Callable, Sequence

import numpy as np
from flwr.serverapp import Grid

from server.evaluation.site_histograms import sum_histograms
from server.federation import exchange
from server.federation.aggregation import site_weights
from server.federation.exchange import Exchange
from server.federation.honest_lengths import longest_noise, plan_for
from server.federation.secure_sums import SumOfSites, secure_sum
from shared_model.config.choices import Aggregation, PrivacyMode
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.server_sections import StrategyConfig
from shared_model.errors import ProtocolError, RoundError
from shared_model.messages import Request, TrainReply
from shared_model.messages.types import CLASSES, FEATURE_SUM, MEAN, SCORES
from shared_model.metrics.counts import FloatArray
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.secure_sum.sum_grid import MOST_PER_DECLARED

Check = Callable[[TrainReply], None]
_LEAST_LENGTH = 1e-9


def mean_direction(
    grid: Grid, request: Request, nodes: Sequence[int], *, check: Check
) -> tuple[FloatArray, Exchange[TrainReply]]:
    """Return the unit vector ``(D,)``, float64, along which the features of all patients lie on average.

    Args:
        grid: reaches the sites.
        request: of round 0.
        nodes: Flower's ids of the sites' connections.
        check: see ``exchange.sums``.

    Raises:
        RoundError: too few valid replies; or their sum is zero, as that of sites without an image.
    """
    config = request.config
    if config.federation.secure_sum:
        return _direction_of_sum(grid, request, nodes, check=check)

    def check_length(reply: TrainReply) -> None:
        """Refuse what no patients of this number can add up to."""
        check(reply)
        longest = _longest_sum(config, reply.num_patients_declared)
        length = float(np.linalg.norm(reply.update[FEATURE_SUM].astype(np.float64)))
        if not length <= longest:
            raise ProtocolError(f"Expected a sum of features no longer than {longest:.4g}, got {length:.4g}.")

    expected = {FEATURE_SUM: np.zeros(FEATURE_WIDTH, np.float32)}
    found = exchange.sums(grid, request, nodes, message_type=MEAN, expected=expected, check=check_length)
    factors = site_factors([reply.num_patients_declared for reply in found.replies], config.strategy)
    sums = np.stack([reply.update[FEATURE_SUM].astype(np.float64) for reply in found.replies])
    sums *= np.array(factors)[:, None]
    if config.strategy.aggregation is not Aggregation.MEAN:
        sums = no_longer_than_median(sums)
    return _direction(sums.sum(axis=0)), found


def _direction_of_sum(
    grid: Grid, request: Request, nodes: Sequence[int], *, check: Check
) -> tuple[FloatArray, Exchange[TrainReply]]:
    plan = plan_for(request.config, 1)
    what = SumOfSites(
        message_type=MEAN,
        sensitivity=1.0,
        noise_multiplier=plan.mean_noise_multiplier or 0.0,
        num_values=FEATURE_WIDTH,
    )
    opened = secure_sum(grid, request, nodes, what, check=check)
    return _direction(opened.total), opened.replies


def _direction(total: FloatArray) -> FloatArray:
    length = float(np.linalg.norm(total))
    if not length > _LEAST_LENGTH:
        raise RoundError("Expected the sites' features to have a mean, got zero: do their patients have images?")
    return total / length


def training_histogram(
    grid: Grid, request: Request, nodes: Sequence[int], *, check: Check
) -> tuple[PatientHistogram, Exchange[TrainReply]]:
    """Return the histogram of the training patients' scores under ``request.parameters``, over all sites.

    Args:
        grid: reaches the sites.
        request: of the round after the last.
        nodes: Flower's ids of the sites' connections.
        check: see ``exchange.sums``.

    Raises:
        RoundError: too few valid replies.
    """
    config = request.config
    if config.federation.secure_sum:
        return _histogram_of_sum(grid, request, nodes, check=check)

    def check_counts(reply: TrainReply) -> None:
        """Refuse what no patients of this number can be counted as."""
        check(reply)
        _require_possible(_site_histogram(config, reply), reply.num_patients_declared)

    expected = {label: np.zeros(config.histogram_bins, np.float32) for label in CLASSES}
    found = exchange.sums(grid, request, nodes, message_type=SCORES, expected=expected, check=check_counts)
    factors = site_factors([reply.num_patients_declared for reply in found.replies], config.strategy)
    scaled = [
        _site_histogram(config, reply).scaled(factor) for factor, reply in zip(factors, found.replies, strict=True)
    ]
    return sum_histograms(scaled), found


def _histogram_of_sum(
    grid: Grid, request: Request, nodes: Sequence[int], *, check: Check
) -> tuple[PatientHistogram, Exchange[TrainReply]]:
    plan, bins = plan_for(request.config, 1), request.config.histogram_bins
    what = SumOfSites(
        message_type=SCORES,
        sensitivity=1.0,
        noise_multiplier=plan.histogram_noise_multiplier or 0.0,
        num_values=len(CLASSES) * bins,
    )
    opened = secure_sum(grid, request, nodes, what, check=check)
    counts = dict(zip(CLASSES, np.split(opened.total, len(CLASSES)), strict=True))
    return PatientHistogram(noise_std=opened.noise_std, **counts), opened.replies


def site_factors(sizes: Sequence[int], strategy: StrategyConfig) -> list[float]:
    """Return the factor of each site's sum: the largest is 1, and none weighs more than it may in training.

    Args:
        sizes: declared patients of the sites, at least 1 each.
        strategy: names the rule and its share.
    """
    largest = 1 / len(sizes)
    if strategy.aggregation is Aggregation.MEAN:
        largest = strategy.max_site_weight
    elif strategy.aggregation is Aggregation.GUARDED:
        largest = min(1.0, strategy.max_site_share / len(sizes))
    factors = np.array(site_weights(sizes, largest)) / np.array(sizes)
    return [float(factor) for factor in factors / factors.max()]


def no_longer_than_median(sums: FloatArray) -> FloatArray:
    """Return the rows, float64, those longer than the median length shortened to it.

    Where the rows of all others point one way, a single row of three or more cannot outweigh them.

    Args:
        sums: ``(num_sites, D)``, finite.
    """
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    # Of two in the middle the shorter: a liar may be the longer one.
    longest = np.sort(lengths, axis=0)[(len(lengths) - 1) // 2]
    shortened: FloatArray = sums * np.minimum(1.0, longest / np.maximum(lengths, _LEAST_LENGTH))
    return shortened


def _longest_sum(config: ExperimentConfig, num_patients_declared: int) -> float:
    """Return the length that an honest sum exceeds with probability ``FAILURE_PROBABILITY`` at most.

    A patient adds a vector no longer than 1.
    """
    patients = float(MOST_PER_DECLARED * num_patients_declared)
    if config.privacy.mode is PrivacyMode.OFF:
        return patients
    std = plan_for(config, num_patients_declared).mean_noise_multiplier or 0.0
    return patients + 1.001 * std * longest_noise(FEATURE_WIDTH)


def _site_histogram(config: ExperimentConfig, reply: TrainReply) -> PatientHistogram:
    """Return the histogram of a reply, with the noise of the plan, whatever the site says.

    Raises:
        ProtocolError: its counts are none.
    """
    std = 0.0
    if config.privacy.mode is PrivacyMode.PATIENT:
        std = plan_for(config, reply.num_patients_declared).histogram_noise_multiplier or 0.0
    counts = {label: reply.update[label].astype(np.float64) for label in CLASSES}
    try:
        return PatientHistogram(noise_std=std, **counts)
    except ValueError as error:
        raise ProtocolError(f"Histogram of site {reply.site}: {error}") from error


def _require_possible(histogram: PatientHistogram, num_patients_declared: int) -> None:
    """Check that noise can have made the counts of those that so many patients can have: at least 0, and not too many.

    Bounds of single counts would let a site move all of them that far at once. What is nearest to the counts and
    possible is no farther away than what is true.

    Raises:
        ProtocolError: it cannot, which happens to an honest site with probability ``FAILURE_PROBABILITY`` at most.
    """
    counts = np.concatenate([getattr(histogram, label) for label in CLASSES])
    distance = float(np.linalg.norm(counts - _nearest_possible(counts, MOST_PER_DECLARED * num_patients_declared)))
    farthest = histogram.noise_std * longest_noise(len(counts))
    rounding = 1e-3
    # Written so that NaN fails.
    if not distance <= farthest + rounding:
        raise ProtocolError(
            f"Expected counts no farther than {farthest:.4g} (noise alone) from those of {num_patients_declared} "
            f"declared patients, got {distance:.4g}."
        )


def _nearest_possible(counts: FloatArray, most: float) -> FloatArray:
    """Return what is nearest to ``counts`` of all counts of at least 0 that add up to ``most`` at most.

    Too large a sum is lowered by the same amount in every count that stays above 0 (Duchi et al. 2008, Fig. 1).
    """
    nearest: FloatArray = np.maximum(counts, 0.0)
    if nearest.sum() > most:
        falling = np.sort(counts)[::-1]
        amounts = (np.cumsum(falling) - most) / np.arange(1, len(counts) + 1)
        nearest = np.maximum(counts - amounts[np.flatnonzero(falling > amounts)[-1]], 0.0)
    return nearest
