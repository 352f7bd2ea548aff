"""Aggregation: the sites' updates of one round become one update, by a mean or by a robust rule.

A site may lie about anything that it sends. An update that is not finite or has another shape is refused before it
gets here (``exchange``), and so is a claim that cannot be (``claims``). Three defences stand here. A bound: an update
longer than ``strategy.max_update_norm`` is scaled down to it, and its site is named. The guarded mean, the default, is
in ``guarded_mean``. Robust rules: the median, the trimmed mean or Krum follow what most sites agree on. For example, of
the values 1.0, 1.1, 0.9 and 1000 the mean is 250.75 and the median 1.05. Robust rules weigh all sites equally, since
the number of patients that a site declares may be a lie too. They and the guarded mean need all updates at once,
whereas the plain mean needs only sums.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.federation.agreement import Agreement
from server.federation.honest_lengths import HonestLengths
from shared_model.config.choices import Aggregation, UpdateNorm
from shared_model.config.server_sections import StrategyConfig
from shared_model.errors import RoundError
from shared_model.network.named_arrays import Float32Array, Parameters, clip, l2_norm

_Sums = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """What the updates of a round became."""

    update: dict[str, Float32Array]
    """With the names and shapes of the sites' updates."""
    outliers: tuple[str, ...] = ()
    """A sentence for each site whose update stood out, and what was done about it."""
    agreements: Mapping[str, Agreement] = field(default_factory=dict)
    """Of the sites that took part, this round included; empty where the rule asks for none."""


class Aggregator(Protocol):
    """Takes the updates of one round one by one, in any order: the result does not depend on the order."""

    def add(self, update: Parameters, *, site: str, num_patients: int) -> None:
        """Take the update of one site, each site once; names and shapes as those before."""

    def result(self) -> Aggregate:
        """Return the aggregated update.

        Raises:
            RoundError: too few sites for the rule.
        """


class LengthBound:
    """``strategy.max_update_norm`` at work: scales longer updates down and remembers whose they were."""

    def __init__(self, strategy: StrategyConfig, lengths: HonestLengths) -> None:
        self._bound = strategy.max_update_norm
        self._lengths = lengths
        self._longer: list[str] = []

    def bounded(self, update: Parameters, *, site: str, num_patients: int) -> Parameters:
        """Return ``update``, no longer than it may be."""
        if self._bound is None:
            return update
        longest = self._lengths.longest(num_patients) if self._bound is UpdateNorm.AUTO else self._bound
        if l2_norm(update) <= longest:
            return update
        self._longer.append(site)
        return clip(update, longest)

    @property
    def outliers(self) -> tuple[str, ...]:
        """A sentence for each site whose update was too long."""
        what = "any honest one" if self._bound is UpdateNorm.AUTO else "strategy.max_update_norm"
        return tuple(f"{site} sent an update longer than {what}, which was shortened" for site in sorted(self._longer))


def site_weights(num_patients: Sequence[float], max_site_weight: float) -> list[float]:
    """Return weights in proportion to the declared patients, none above ``max_site_weight``, that sum to 1.

    What a site above the maximum loses goes to the others in proportion. Where the maximum cannot hold (fewer sites
    than ``1 / max_site_weight``), all sites weigh the same.

    >>> site_weights([10, 30], 1.0)
    [0.25, 0.75]
    >>> [round(weight, 3) for weight in site_weights([100, 300, 9600], 0.7)]
    [0.075, 0.225, 0.7]
    """
    sizes = np.asarray(num_patients, dtype=np.float64)
    if len(sizes) * max_site_weight <= 1:
        return [1.0 / len(sizes)] * len(sizes)
    is_capped = np.zeros(len(sizes), dtype=bool)
    while True:
        remaining = 1.0 - is_capped.sum() * max_site_weight
        weights = np.where(is_capped, max_site_weight, remaining * sizes / sizes[~is_capped].sum())
        is_above = weights > max_site_weight + 1e-12
        if not is_above.any():
            return [float(weight) for weight in weights]
        is_capped |= is_above


class WeightedMean:
    """Mean weighted by declared patients, no weight above ``max_site_weight``; memory does not grow with the sites.

    Only at the end is it known whose weight must be lowered to the maximum, but it can only be the largest sites, at
    most ``1 / max_site_weight`` of them. Their updates are kept one by one. Of all other updates only the sum is kept,
    as two float64 numbers per parameter: the sum and its rounding error (Knuth, TAOCP 2, 4.2.2, Theorem B). So the
    sum is exact to about 2^-100, and the order in which sites answer does not change the float32 result.
    """

    def __init__(self, max_site_weight: float, bound: LengthBound) -> None:
        self._max_site_weight = max_site_weight
        self._bound = bound
        self._largest: list[tuple[int, str, Parameters]] = []
        """Patients, site and update of the largest sites, the largest first."""
        self._sum: _Sums = {}
        self._rounding_error: _Sums = {}
        self._summed_sizes: list[int] = []
        """Patients of each site that is in the sum."""

    def add(self, update: Parameters, *, site: str, num_patients: int) -> None:
        """Take one update; see ``Aggregator``."""
        bounded = self._bound.bounded(update, site=site, num_patients=num_patients)
        self._largest.append((num_patients, site, bounded))
        self._largest.sort(key=lambda entry: entry[:2], reverse=True)
        if len(self._largest) > math.floor(1 / self._max_site_weight):
            size, _, smallest = self._largest.pop()
            self._summed_sizes.append(size)
            for name, array in smallest.items():
                self._add_to_sum(name, array.astype(np.float64) * size)

    def result(self) -> Aggregate:
        """Return the mean; see ``Aggregator``."""
        if not self._largest:
            raise RoundError("Expected at least one update.")
        weights = site_weights([size for size, _, _ in self._largest] + self._summed_sizes, self._max_site_weight)
        mean: dict[str, Float32Array] = {}
        for name in self._largest[0][2]:
            # From the smallest site to the largest: an order that depends on the sites alone.
            total = np.zeros_like(self._largest[0][2][name], dtype=np.float64)
            if self._summed_sizes:
                weight_per_patient = weights[-1] / self._summed_sizes[-1]
                total = total + (self._sum[name] + self._rounding_error[name]) * weight_per_patient
            for weight, (_, _, update) in reversed(list(zip(weights, self._largest, strict=False))):
                total = total + weight * update[name].astype(np.float64)
            mean[name] = total.astype(np.float32)
        return Aggregate(update=mean, outliers=self._bound.outliers)

    def _add_to_sum(self, name: str, term: NDArray[np.float64]) -> None:
        old = self._sum.get(name, np.zeros_like(term))
        new = old + term
        added = new - old
        error = (old - (new - added)) + (term - added)
        self._sum[name] = new
        self._rounding_error[name] = self._rounding_error.get(name, np.zeros_like(term)) + error


class RobustAggregator:
    """Coordinate-wise median or trimmed mean (Yin et al. 2018), or Krum (Blanchard et al. 2017)."""

    def __init__(self, rule: Aggregation, num_hostile: int, bound: LengthBound) -> None:
        self._rule = rule
        self._num_hostile = num_hostile
        self._bound = bound
        self._updates: dict[str, Parameters] = {}

    def add(self, update: Parameters, *, site: str, num_patients: int) -> None:
        """Take one update; see ``Aggregator``."""
        self._updates[site] = self._bound.bounded(update, site=site, num_patients=num_patients)

    def result(self) -> Aggregate:
        """Return what the rule makes of the updates; see ``Aggregator``."""
        return Aggregate(update=self._combined(), outliers=self._bound.outliers)

    def _combined(self) -> dict[str, Float32Array]:
        updates = [self._updates[site] for site in sorted(self._updates)]
        if self._rule is Aggregation.KRUM:
            return krum(updates, self._num_hostile)
        if self._rule is Aggregation.TRIMMED_MEAN:
            return trimmed_mean(updates, self._num_hostile)
        return median(updates)


def median(updates: Sequence[Parameters]) -> dict[str, Float32Array]:
    """Return the median of every entry over the sites.

    Raises:
        RoundError: there is no update.

    >>> median([{"w": np.float32([value])} for value in (1.0, 1.25, 0.75, 1000.0)])["w"].tolist()
    [1.125]
    """
    _require_sites(updates, 1, "median")
    return {name: np.median(stacked, axis=0).astype(np.float32) for name, stacked in _stacked(updates)}


def trimmed_mean(updates: Sequence[Parameters], num_hostile: int) -> dict[str, Float32Array]:
    """Return the mean of every entry over the sites, without its ``num_hostile`` largest and smallest values.

    Raises:
        RoundError: there are not more than ``2 * num_hostile`` updates.

    >>> trimmed_mean([{"w": np.float32([value])} for value in (1.0, 1.5, 0.5, 1000.0)], 1)["w"].tolist()
    [1.25]
    """
    _require_sites(updates, 2 * num_hostile + 1, "trimmed_mean")
    last = len(updates) - num_hostile
    return {
        name: np.sort(stacked, axis=0)[num_hostile:last].mean(axis=0).astype(np.float32)
        for name, stacked in _stacked(updates)
    }


def krum(updates: Sequence[Parameters], num_hostile: int) -> dict[str, Float32Array]:
    """Return the one update that is nearest to its ``n - num_hostile - 2`` nearest others (Blanchard et al. 2017).

    Near means a small sum of squared Euclidean distances.

    Raises:
        RoundError: there are fewer than ``2 * num_hostile + 3`` updates.

    >>> krum([{"w": np.float32([value])} for value in (1.0, 1.5, 0.75, 1.125, 1000.0)], 1)["w"].tolist()
    [1.0]
    """
    _require_sites(updates, 2 * num_hostile + 3, "krum")
    flat = np.stack([np.concatenate([array.ravel() for array in update.values()]) for update in updates])
    flat = flat.astype(np.float64)
    squared_distances = np.stack([np.square(flat - row).sum(axis=1) for row in flat])
    # The nearest row of each is itself, at distance 0, and does not count.
    scores = np.sort(squared_distances, axis=1)[:, 1 : len(updates) - num_hostile - 1].sum(axis=1)
    return {name: np.array(array) for name, array in updates[int(scores.argmin())].items()}


def _stacked(updates: Sequence[Parameters]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield every name with the arrays of all sites, ``(num_sites, ...)``."""
    for name in updates[0]:
        yield name, np.stack([update[name] for update in updates]).astype(np.float64)


def _require_sites(updates: Sequence[Parameters], num_needed: int, rule: str) -> None:
    if len(updates) < num_needed:
        raise RoundError(f"Expected at least {num_needed} sites for strategy.aggregation={rule}, got {len(updates)}.")
