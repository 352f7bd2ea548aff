"""The guarded mean: of three sites one may lie about its size, its update or both, and the others still decide.

It is the mean by declared patients with four changes.

1. No site weighs more than ``strategy.max_site_share`` equal shares, whatever size it declares.
2. An update longer than any honest one (``honest_lengths``) does not count.
3. No update counts for more than the median length of the round. An honest update that is longer is so by its noise:
   that of a small site is long, and loses nothing by it.
4. A site whose updates point away from those of the others counts less, and in the end nothing (``agreement``). This is
   for private training with three sites or more. Without noise, honest sites that differ point away from each other
   when training has converged, so that nothing could be told from it.

With two sites nobody can say which of them lies: only their weights and ``strategy.max_update_norm`` are bounded.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from server.federation.aggregation import Aggregate, LengthBound, site_weights
from server.federation.agreement import DISAGREEMENT_TO_NAME, STRANGER, Agreement, after_round, angles, distances, trust
from server.federation.honest_lengths import HonestLengths
from server.federation.median_length import FEWEST_TO_JUDGE, far_longer, name_far, shortening
from shared_model.config.choices import UpdateNorm
from shared_model.config.server_sections import StrategyConfig
from shared_model.errors import RoundError
from shared_model.network.named_arrays import Float32Array, Parameters, l2_norm


class GuardedMean:
    """See the module; it keeps all updates of the round."""

    def __init__(self, strategy: StrategyConfig, lengths: HonestLengths, agreements: Mapping[str, Agreement]) -> None:
        """Begin a round; ``agreements`` are those after the round before, by site."""
        self._max_site_share = strategy.max_site_share
        self._is_auto = strategy.max_update_norm is UpdateNorm.AUTO
        self._bound = LengthBound(strategy, lengths)
        self._lengths = lengths
        self._agreements = agreements
        self._updates: dict[str, tuple[int, Parameters]] = {}
        """By site the patients declared and the update."""
        self._left_out: list[str] = []
        """Sites whose update is longer than any honest one."""

    def add(self, update: Parameters, *, site: str, num_patients: int) -> None:
        """Take one update; see ``Aggregator``."""
        if not self._is_auto:
            update = self._bound.bounded(update, site=site, num_patients=num_patients)
        elif l2_norm(update) > self._lengths.longest(num_patients):
            self._left_out.append(f"{site} sent an update longer than any honest one and did not count")
            return
        self._updates[site] = (num_patients, update)

    def result(self) -> Aggregate:
        """Return the guarded mean; see ``Aggregator``."""
        if not self._updates:
            raise RoundError("Expected at least one update that can be of an honest site.")
        sites = sorted(self._updates)
        sizes, updates = zip(*(self._updates[site] for site in sites), strict=True)
        lengths = np.array([l2_norm(update) for update in updates])
        shares, agreements, outliers = [1.0] * len(sites), list[Agreement](), (*self._left_out, *self._bound.outliers)
        scales = np.ones(len(sites))
        if len(sites) >= FEWEST_TO_JUDGE:
            scales = shortening(lengths)
            outliers += self._far_outliers(sites, sizes, lengths)
            if self._lengths.is_private:
                agreements = self._updated_agreements(sites, updates)
                found = distances(agreements)
                shares = [trust(distance) for distance in found]
                outliers += _pointing_away(sites, found)
        weights = _weights(sizes, shares, self._max_site_share)
        return Aggregate(
            update=_weighted_sum(updates, weights * scales),
            outliers=tuple(sorted(outliers)),
            agreements=dict(zip(sites, agreements, strict=False)),
        )

    def _updated_agreements(self, sites: Sequence[str], updates: Sequence[Parameters]) -> list[Agreement]:
        before = [self._agreements.get(site, STRANGER) for site in sites]
        return after_round(before, angles(_products(updates)), self._lengths.num_entries)

    def _far_outliers(
        self, sites: Sequence[str], sizes: Sequence[int], lengths: NDArray[np.float64]
    ) -> tuple[str, ...]:
        noise = np.array([self._lengths.noise(size) for size in sizes])
        return name_far(sites, far_longer(lengths, noise), "an update", "was")


def _pointing_away(sites: Sequence[str], found: Sequence[float]) -> tuple[str, ...]:
    return tuple(
        f"{site} points away from the other sites and did not count"
        for site, distance in zip(sites, found, strict=True)
        if distance <= -DISAGREEMENT_TO_NAME
    )


def _weights(sizes: Sequence[int], shares: Sequence[float], max_site_share: float) -> NDArray[np.float64]:
    """Return weights that sum to 1, by size and then by trust, none above ``max_site_share`` of those who count."""
    by_size = np.array(site_weights(sizes, min(1.0, max_site_share / len(sizes)))) * shares
    counts = by_size > 0
    weights = np.zeros(len(sizes))
    weights[counts] = site_weights(by_size[counts].tolist(), min(1.0, max_site_share / counts.sum()))
    return weights


def _products(updates: Sequence[Parameters]) -> NDArray[np.float64]:
    """Return the dot products of all updates with each other, ``(N, N)``."""
    products = np.zeros((len(updates), len(updates)))
    for name in updates[0]:
        rows = np.stack([update[name].ravel() for update in updates]).astype(np.float64)
        products += rows @ rows.T
    return products


def _weighted_sum(updates: Sequence[Parameters], weights: NDArray[np.float64]) -> dict[str, Float32Array]:
    return {
        name: np.tensordot(weights, np.stack([update[name] for update in updates]).astype(np.float64), axes=1).astype(
            np.float32
        )
        for name in updates[0]
    }
