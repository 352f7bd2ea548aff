"""Aggregation: weights that sum to one, the mean against a naive loop, and robust rules against hostile sites."""

import dataclasses
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from server.federation.aggregation import LengthBound, WeightedMean, krum, site_weights, trimmed_mean
from server.federation.aggregators import new_aggregator
from server.federation.honest_lengths import HonestLengths
from shared_model.config.choices import Aggregation
from shared_model.config.composition import compose
from shared_model.errors import RoundError
from shared_model.messages import Request
from shared_model.network.named_arrays import l2_norm

CONFIG = compose(["preset=smoke", "strategy.aggregation=mean", "strategy.max_update_norm=null"])
NO_BOUND = LengthBound(CONFIG.strategy, HonestLengths.of_round(CONFIG, {}))
ENTRIES = st.floats(-1e3, 1e3, width=32)
SIZES = st.lists(st.integers(1, 10**7), min_size=1, max_size=8)
CAPS = st.floats(0.01, 1.0)
ROBUST = [Aggregation.TRIMMED_MEAN, Aggregation.MEDIAN, Aggregation.KRUM]


def named(*entries):
    return {"w": np.array(entries, dtype=np.float32)}


def aggregated(updates, *, sizes=None, cap=1.0, **changes):
    strategy = dataclasses.replace(CONFIG.strategy, max_site_weight=cap, **changes)
    config = dataclasses.replace(CONFIG, strategy=strategy)
    parameters = updates[0] if updates else {}
    aggregator = new_aggregator(Request(config=config, server_round=1, parameters=parameters, constants={}), {})
    sizes = sizes or [10] * len(updates)
    for number, (update, size) in enumerate(zip(updates, sizes, strict=True)):
        aggregator.add(update, site=f"site {number}", num_patients=size)
    return aggregator.result().update


# Weights of the sites


@pytest.mark.parametrize(
    ("sizes", "cap", "expected"),
    [
        ([10, 30], 1.0, [0.25, 0.75]),
        ([7], 1.0, [1.0]),
        ([7], 0.5, [1.0]),
        ([1, 9], 0.8, [0.2, 0.8]),
        ([1, 5, 94], 0.4, [0.2, 0.4, 0.4]),  # what the third loses lifts the second above the cap too
        ([100, 300, 9600], 0.7, [0.075, 0.225, 0.7]),
        ([1, 1, 10**7], 0.5, [0.25, 0.25, 0.5]),
        ([1, 10**7], 0.5, [0.5, 0.5]),
        ([1, 2, 3], 0.2, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_weights_by_hand(sizes, cap, expected):
    assert site_weights(sizes, cap) == pytest.approx(expected, abs=1e-12)


@given(SIZES, CAPS)
def test_weights_are_shares_of_one(sizes, cap):
    weights = site_weights(sizes, cap)
    assert all(type(weight) is float and weight > 0 for weight in weights)
    assert math.isclose(sum(weights), 1.0, abs_tol=1e-9)


@given(SIZES, CAPS)
def test_no_site_weighs_more_than_the_cap_where_it_can_hold(sizes, cap):
    assume(len(sizes) * cap > 1)
    assert max(site_weights(sizes, cap)) <= cap + 1e-9


@given(SIZES, CAPS)
def test_a_larger_site_never_weighs_less(sizes, cap):
    weights = site_weights(sizes, cap)
    for size, weight in zip(sizes, weights, strict=True):
        for other_size, other in zip(sizes, weights, strict=True):
            assert size <= other_size or weight >= other - 1e-9


@given(SIZES)
def test_without_a_cap_weights_are_proportional(sizes):
    assert site_weights(sizes, 1.0) == pytest.approx([size / sum(sizes) for size in sizes])


# Mean and robust rules


def test_mean_by_hand():
    mean = aggregated([named(1, 2), named(5, 10)], sizes=[10, 30])
    assert mean["w"].tolist() == [4, 8]
    assert mean["w"].dtype == np.float32


def test_mean_adds_in_more_than_float32():
    assert aggregated([named(1e8), named(1.0), named(-1e8)])["w"][0] == pytest.approx(1 / 3, rel=1e-6)


@given(st.data(), st.integers(1, 12), st.floats(0.05, 1.0))
def test_mean_is_the_naive_one_and_does_not_depend_on_the_order_of_arrival(data, num_sites, cap):
    shapes = data.draw(st.dictionaries(st.text(max_size=3), hnp.array_shapes(min_dims=0, max_dims=2), max_size=2))
    updates = [
        {name: data.draw(hnp.arrays(np.float32, shape, elements=ENTRIES)) for name, shape in shapes.items()}
        for _ in range(num_sites)
    ]
    sizes = data.draw(st.lists(st.integers(1, 999), min_size=num_sites, max_size=num_sites))
    weights = site_weights(sizes, cap)
    results = []
    for order in (range(num_sites), data.draw(st.permutations(range(num_sites)))):
        aggregator = WeightedMean(cap, NO_BOUND)
        for index in order:
            aggregator.add(updates[index], site=f"site {index}", num_patients=sizes[index])
        results.append(aggregator.result().update)
    straight, permuted = results
    assert list(straight) == list(shapes)
    for name, shape in shapes.items():
        naive = sum(weight * update[name].astype(np.float64) for weight, update in zip(weights, updates, strict=True))
        assert straight[name].shape == shape
        assert straight[name].dtype == np.float32
        np.testing.assert_allclose(straight[name], naive, rtol=1e-6, atol=1e-6)
        assert straight[name].tobytes() == permuted[name].tobytes()


def test_memory_of_the_mean_does_not_grow_with_the_sites():
    update = {"w": np.ones(100_000, np.float32)}
    peaks = []
    for num_sites in (5, 50):
        tracemalloc.start()
        aggregator = WeightedMean(0.8, NO_BOUND)
        for number in range(num_sites):
            aggregator.add({"w": update["w"] + number}, site=str(number), num_patients=10)
        aggregator.result()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_nothing_to_aggregate():
    for rule in Aggregation:
        with pytest.raises(RoundError, match="Expected at least"):
            aggregated([], aggregation=rule)


HONEST = [named(1.0, -1.0, 0.5), named(1.2, -0.9, 0.4), named(0.9, -1.1, 0.6), named(1.1, -1.0, 0.5)]


@pytest.mark.parametrize("rule", ROBUST)
@pytest.mark.parametrize(
    "lie",
    [named(1e9, -1e9, 1e9), named(-11, 10, -5), named(0, 0, 40), named(1.0, 1e30, 0.5)],
    ids=["huge", "negated", "plausible but wrong", "one entry"],
)
def test_one_hostile_site_of_five_moves_the_mean_and_no_robust_rule(rule, lie):
    everyone = [*HONEST[:2], lie, *HONEST[2:]]
    honest = np.stack([update["w"] for update in HONEST])
    found = aggregated(everyone, aggregation=rule, num_hostile=1)["w"]
    assert (found >= honest.min(axis=0)).all()
    assert (found <= honest.max(axis=0)).all()
    mean = aggregated(everyone, aggregation=Aggregation.MEAN)["w"]
    assert not ((mean >= honest.min(axis=0)) & (mean <= honest.max(axis=0))).all()


@pytest.mark.parametrize("rule", ROBUST)
def test_a_claim_of_many_patients_gives_a_site_no_weight(rule):
    sizes = [10, 10, 10**6, 10, 10]
    everyone = [*HONEST[:2], named(5, 5, 5), *HONEST[2:]]
    with_claim = aggregated(everyone, sizes=sizes, aggregation=rule, num_hostile=1)
    assert with_claim["w"].tolist() == aggregated(everyone, aggregation=rule, num_hostile=1)["w"].tolist()


@pytest.mark.parametrize("rule", Aggregation)
def test_a_norm_bound_limits_what_a_huge_update_can_do(rule):
    bounded = aggregated([*HONEST, named(1e9, 1e9, 1e9)], aggregation=rule, num_hostile=1, max_update_norm=2.0)
    assert l2_norm(bounded) <= 2.0


@pytest.mark.parametrize("rule", Aggregation)
def test_equal_updates_give_that_update(rule):
    found = aggregated([HONEST[0]] * 5, aggregation=rule, num_hostile=1)
    np.testing.assert_allclose(found["w"], HONEST[0]["w"], rtol=1e-7)


@given(hnp.arrays(np.float32, (7, 3), elements=ENTRIES), st.integers(0, 2), st.permutations(range(7)))
def test_robust_rules_are_the_naive_ones_in_any_order(rows, num_hostile, order):
    updates = [{"w": row} for row in rows]
    shuffled = [updates[index] for index in order]
    median = aggregated(updates, aggregation=Aggregation.MEDIAN)["w"]
    assert median.tolist() == [sorted(column)[3] for column in rows.T.tolist()]
    trimmed = trimmed_mean(updates, num_hostile)["w"]
    naive = [np.mean(sorted(column)[num_hostile : 7 - num_hostile]) for column in rows.T.astype(np.float64)]
    np.testing.assert_allclose(trimmed, naive, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(trimmed_mean(shuffled, num_hostile)["w"], trimmed, rtol=1e-6, atol=1e-6)
    scores = []
    for row in rows.astype(np.float64):
        distances = sorted(((rows.astype(np.float64) - row) ** 2).sum(axis=1))
        scores.append(sum(distances[1 : 7 - num_hostile - 1]))
    chosen = krum(updates, num_hostile)["w"]
    best = min(scores)
    assert any(
        np.array_equal(chosen, row) and score <= best * (1 + 1e-9) for row, score in zip(rows, scores, strict=True)
    )


@pytest.mark.parametrize(("rule", "needed"), [(Aggregation.TRIMMED_MEAN, 5), (Aggregation.KRUM, 7)])
def test_too_few_sites_for_a_rule(rule, needed):
    with pytest.raises(RoundError, match=rf"Expected at least {needed} sites for strategy.aggregation={rule}, got 4"):
        aggregated(HONEST, aggregation=rule, num_hostile=2)
