"""The sites' updates of one round -> one update: a weighted mean as they arrive, or a rule that bears hostile sites.

A site may lie about anything that it sends. What is not finite or has another shape never gets here; a norm bound
limits what remains; and the robust rules look for what most sites agree on. They weigh all sites equally, since the
declared size is a claim like any other, and they need every update at once, where the mean needs only sums.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.federation.server_optimizer import site_weights
from shared_model.config.choices import Aggregation
from shared_model.config.experiment import StrategyConfig
from shared_model.errors import RoundError
from shared_model.network import parameters as named
from shared_model.network.parameters import FloatArray, Parameters

_Sums = dict[str, NDArray[np.float64]]


class Combination(Protocol):
    """Takes the updates of one round one by one, in any order; the result does not depend on it."""

    def add(self, update: Parameters, *, site: str, num_patients: int) -> None:
        """Take the update of one site, each site once; names and shapes as those before."""

    def result(self) -> dict[str, FloatArray]:
        """Return the combined update.

        Raises:
            RoundError: too few sites for the rule.
        """


def begin(strategy: StrategyConfig) -> Combination:
    """Return an empty combination by the rule and the norm bound of ``strategy``."""
    if strategy.aggregation is Aggregation.MEAN:
        return WeightedMean(strategy.max_site_weight, strategy.max_update_norm)
    return RobustRule(strategy.aggregation, strategy.num_hostile, strategy.max_update_norm)


class WeightedMean:
    """Mean by declared patients, none above ``max_site_weight``; memory does not grow with the number of sites.

    Which sites the cap touches is known only at the end, but they are the largest, and at most ``1 / max_site_weight``.
    So that many are kept; of the others only the sum is, in two float64 numbers per parameter (Knuth, TAOCP 2, 4.2.2,
    Theorem B): its error is some 2^-100, so that the order of arrival does not show in float32.
    """

    def __init__(self, max_site_weight: float, max_update_norm: float | None) -> None:
        self._cap = max_site_weight
        self._max_norm = max_update_norm
        self._largest: list[tuple[int, str, Parameters]] = []
        self._high: _Sums = {}
        self._low: _Sums = {}
        self._sizes: list[int] = []
        """Of the sites that are in the sums."""

    def add(self, update: Parameters, *, site: str, num_patients: int) -> None:
        """Take one update; see ``Combination``."""
        self._largest.append((num_patients, site, _bounded(update, self._max_norm)))
        self._largest.sort(key=lambda entry: entry[:2], reverse=True)
        if len(self._largest) > math.floor(1 / self._cap):
            size, _, smallest = self._largest.pop()
            self._sizes.append(size)
            for name, array in smallest.items():
                self._add_to_sum(name, array.astype(np.float64) * size)

    def result(self) -> dict[str, FloatArray]:
        """Return the mean; see ``Combination``."""
        if not self._largest:
            raise RoundError("Expected at least one update.")
        weights = site_weights([size for size, _, _ in self._largest] + self._sizes, self._cap)
        mean: dict[str, FloatArray] = {}
        for name in self._largest[0][2]:
            # Small to large, in an order that depends on the sites alone.
            total = np.zeros_like(self._largest[0][2][name], dtype=np.float64)
            if self._sizes:
                total = total + (self._high[name] + self._low[name]) * (weights[-1] / self._sizes[-1])
            for weight, (_, _, update) in reversed(list(zip(weights, self._largest, strict=False))):
                total = total + weight * update[name].astype(np.float64)
            mean[name] = total.astype(np.float32)
        return mean

    def _add_to_sum(self, name: str, term: NDArray[np.float64]) -> None:
        high = self._high.get(name, np.zeros_like(term))
        total = high + term
        virtual = total - high
        error = (high - (total - virtual)) + (term - virtual)
        self._high[name] = total
        self._low[name] = self._low.get(name, np.zeros_like(term)) + error


class RobustRule:
    """Coordinate-wise median or trimmed mean (Yin et al. 2018), or Krum (Blanchard et al. 2017)."""

    def __init__(self, rule: Aggregation, num_hostile: int, max_update_norm: float | None) -> None:
        self._rule = rule
        self._num_hostile = num_hostile
        self._max_norm = max_update_norm
        self._updates: dict[str, Parameters] = {}

    def add(self, update: Parameters, *, site: str, num_patients: int) -> None:  # noqa: ARG002, no claim counts here
        """Take one update; see ``Combination``."""
        self._updates[site] = _bounded(update, self._max_norm)

    def result(self) -> dict[str, FloatArray]:
        """Return what the rule makes of the updates; see ``Combination``."""
        updates = [self._updates[site] for site in sorted(self._updates)]
        if self._rule is Aggregation.KRUM:
            return krum(updates, self._num_hostile)
        if self._rule is Aggregation.TRIMMED_MEAN:
            return trimmed_mean(updates, self._num_hostile)
        _require_sites(updates, 1, "median")
        return {name: np.median(stacked, axis=0).astype(np.float32) for name, stacked in _stacked(updates)}


def trimmed_mean(updates: Sequence[Parameters], num_hostile: int) -> dict[str, FloatArray]:
    """Return the mean of every entry without its ``num_hostile`` largest and smallest values.

    Raises:
        RoundError: there are not more than ``2 * num_hostile`` updates.
    """
    _require_sites(updates, 2 * num_hostile + 1, "trimmed_mean")
    last = len(updates) - num_hostile
    return {
        name: np.sort(stacked, axis=0)[num_hostile:last].mean(axis=0).astype(np.float32)
        for name, stacked in _stacked(updates)
    }


def krum(updates: Sequence[Parameters], num_hostile: int) -> dict[str, FloatArray]:
    """Return the one update that is nearest to its ``n - num_hostile - 2`` nearest others (Blanchard et al. 2017).

    Raises:
        RoundError: there are fewer than ``2 * num_hostile + 3`` updates.
    """
    _require_sites(updates, 2 * num_hostile + 3, "krum")
    flat = np.stack([np.concatenate([array.ravel() for array in update.values()]) for update in updates])
    flat = flat.astype(np.float64)
    squares = np.stack([np.square(flat - row).sum(axis=1) for row in flat])
    # A row's nearest is itself, at no distance.
    scores = np.sort(squares, axis=1)[:, 1 : len(updates) - num_hostile - 1].sum(axis=1)
    return {name: np.array(array) for name, array in updates[int(scores.argmin())].items()}


def _bounded(update: Parameters, max_update_norm: float | None) -> Parameters:
    return update if max_update_norm is None else named.clip(update, max_update_norm)


def _stacked(updates: Sequence[Parameters]) -> list[tuple[str, NDArray[np.float64]]]:
    return [(name, np.stack([update[name] for update in updates]).astype(np.float64)) for name in updates[0]]


def _require_sites(updates: Sequence[Parameters], needed: int, rule: str) -> None:
    if len(updates) < needed:
        raise RoundError(f"Expected at least {needed} sites for strategy.aggregation={rule}, got {len(updates)}.")
