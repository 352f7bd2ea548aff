"""The guarded mean: honest sites get a mean of their updates, and one liar of three moves it little."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.federation.aggregators import new_aggregator
from server.federation.agreement import STRANGER, Agreement
from server.federation.guarded_mean import GuardedMean
from server.federation.honest_lengths import HonestLengths
from shared_model.config.composition import compose
from shared_model.errors import RoundError
from shared_model.messages import Request
from shared_model.network.named_arrays import l2_norm

PRIVATE, OFF = (compose(["preset=smoke", *more]) for more in ([], ["privacy=off"]))
SITES = ("MGH", "WFU", "ISMD", "A", "B", "C")
TRUSTED = Agreement(total=30.0, variance=1.0)


def named(*entries):
    return {"w": np.array(entries, dtype=np.float32)}


def aggregated(updates, *, sizes=None, config=PRIVATE, agreements=None, **strategy):
    config = dataclasses.replace(config, strategy=dataclasses.replace(config.strategy, **strategy))
    request = Request(config=config, server_round=1, parameters=updates[0] if updates else {}, constants={})
    aggregator = new_aggregator(request, agreements or {})
    assert isinstance(aggregator, GuardedMean)
    for site, update, size in zip(SITES, updates, sizes or [10] * len(updates), strict=False):
        aggregator.add(update, site=site, num_patients=size)
    return aggregator.result()


def test_it_is_the_default():
    assert PRIVATE.strategy.aggregation == OFF.strategy.aggregation == "guarded"
    assert PRIVATE.strategy.max_update_norm == "auto"


def test_equal_updates_give_that_update_and_nothing_to_say():
    update = named(0.1, -0.2, 0.3)
    found = aggregated([update] * 3, sizes=[10, 20, 300])
    np.testing.assert_allclose(found.update["w"], update["w"], rtol=1e-6)
    assert found.outliers == ()


def test_by_hand_without_privacy():
    """Sizes 10, 10, 80 of which none may weigh more than 1.25 / 3; lengths 1, 2, 4, of which none counts above 2."""
    found = aggregated([named(1, 0), named(2, 0), named(0, 4)], sizes=[10, 10, 80], config=OFF)
    most = 1.25 / 3
    np.testing.assert_allclose(found.update["w"], [(1 - most) / 2 * (1 + 2), most * 2], rtol=1e-6)
    assert (found.outliers, found.agreements) == ((), {})


@given(st.integers(1, 9_999), st.sampled_from([0, 1, 2]))
def test_a_claim_of_many_patients_weighs_little_more_than_an_equal_share(size, liar):
    updates = [named(*(float(index == number) for index in range(3))) for number in range(3)]
    sizes = [10, 10, 10]
    sizes[liar] = size
    weights = aggregated(updates, sizes=sizes, config=OFF).update["w"]
    assert weights[liar] <= 1.25 / 3 + 1e-6
    assert weights.sum() == pytest.approx(1.0)


@given(st.floats(1.0, 1e30), st.sampled_from([0, 1, 2]))
def test_without_privacy_too_no_update_counts_above_the_median_length(factor, liar):
    updates = [named(1, 0), named(0, 1), named(0.6, 0.8)]
    updates[liar] = {"w": (updates[liar]["w"] * np.float32(factor)).astype(np.float32)}
    found = aggregated(updates, config=OFF)
    assert l2_norm(found.update) <= 1 + 1e-5
    said = f"{SITES[liar]} sent an update far longer than those of the others, which was shortened to their median"
    assert (said in found.outliers) == (factor > 3)


@pytest.mark.parametrize("size", [10, 9_990])
def test_an_update_longer_than_any_honest_one_does_not_count(size):
    honest = [named(0.3, 0.1, 0.2), named(0.2, 0.2, 0.2)]
    found = aggregated([*honest, named(1e6, 1e6, 1e6)], sizes=[10, 10, size])
    np.testing.assert_allclose(found.update["w"], aggregated(honest).update["w"], rtol=1e-6)
    assert "ISMD sent an update longer than any honest one and did not count" in found.outliers
    assert set(found.agreements) <= {"MGH", "WFU"}


def test_a_bound_in_numbers_shortens():
    found = aggregated([named(1, 0)] * 3 + [named(30, 0)], config=OFF, max_update_norm=0.5)
    assert l2_norm(found.update) == pytest.approx(0.5, rel=1e-6)
    assert len(found.outliers) == 4
    assert found.outliers[0] == "A sent an update longer than strategy.max_update_norm, which was shortened"


def test_if_nobody_can_be_honest_there_is_no_update():
    with pytest.raises(RoundError, match="Expected at least one update that can be of an honest site"):
        aggregated([named(1e6), named(1e7)])
    with pytest.raises(RoundError, match="Expected at least one update that can be of an honest site"):
        aggregated([])


def test_two_sites_are_a_capped_mean():
    found = aggregated([named(0.1, 0.0), named(0.0, -0.3)], sizes=[10, 1000])
    np.testing.assert_allclose(found.update["w"], [0.375 * 0.1, -0.625 * 0.3], rtol=1e-5)
    assert (found.outliers, found.agreements) == ((), {})


class TestTrust:
    def noisy(self, generator, *, liar=None, factor=-1.0, num_sites=3):
        updates = [named(*(0.05 + 0.1 * generator.normal(size=40))) for _ in range(num_sites)]
        if liar is not None:
            updates[liar] = {"w": (updates[liar]["w"] * np.float32(factor)).astype(np.float32)}
        return updates

    @pytest.mark.parametrize("factor", [-1.0, -5.0])
    @pytest.mark.parametrize("liar", [0, 1, 2])
    def test_who_points_away_does_not_count_after_some_rounds(self, liar, factor):
        generator, known, names = np.random.default_rng(liar), {}, set()
        for _ in range(12):
            updates = self.noisy(generator, liar=liar, factor=factor)
            found = aggregated(updates, agreements=known)
            known = dict(found.agreements)
            names |= {outlier.split()[0] for outlier in found.outliers}
        assert f"{SITES[liar]} points away from the other sites and did not count" in found.outliers
        assert names == {SITES[liar]}
        others = [update["w"] for number, update in enumerate(updates) if number != liar]
        inside = np.minimum(*others) - 1e-6 <= found.update["w"]
        assert (inside & (found.update["w"] <= np.maximum(*others) + 1e-6)).mean() > 0.9

    def test_honest_sites_are_not_named_and_keep_their_weight(self):
        generator, known = np.random.default_rng(9), {}
        for _ in range(40):
            found = aggregated(self.noisy(generator, num_sites=5), agreements=known)
            known = dict(found.agreements)
            assert found.outliers == ()

    def test_a_lost_reputation_counts_before_the_round(self):
        lost = {"MGH": Agreement(total=-30.0, variance=1.0), "WFU": TRUSTED, "ISMD": TRUSTED}
        updates = [named(9.0, 0.0), named(0.0, 0.1), named(0.0, 0.1)]
        found = aggregated(updates, agreements=lost, max_update_norm=None)
        np.testing.assert_allclose(found.update["w"], [0.0, 0.1], atol=1e-6)

    def test_without_privacy_nobody_is_judged_by_where_it_points(self):
        found = aggregated([named(1, 0), named(1, 0), named(-1, 0)], config=OFF)
        assert (found.outliers, found.agreements) == ((), {})

    def test_a_stranger_begins_without_a_reputation(self):
        updates = self.noisy(np.random.default_rng(4))
        fresh = aggregated(updates)
        told = aggregated(updates, agreements=dict.fromkeys(SITES, STRANGER))
        assert fresh.update["w"].tolist() == told.update["w"].tolist()
        assert fresh.agreements == told.agreements


@given(st.permutations(range(5)))
def test_the_order_of_arrival_changes_nothing(order):
    generator = np.random.default_rng(5)
    config = PRIVATE
    updates = [named(*(0.1 * generator.normal(size=6))) for _ in range(5)]
    results = []
    for arrival in (range(5), order):
        guarded = GuardedMean(config.strategy, HonestLengths.of_round(config, updates[0]), {})
        for number in arrival:
            guarded.add(updates[number], site=SITES[number], num_patients=10 * number + 10)
        results.append(guarded.result())
    assert results[0].update["w"].tobytes() == results[1].update["w"].tobytes()
    assert (results[0].outliers, results[0].agreements) == (results[1].outliers, results[1].agreements)
