"""A run that buys a mean before training and a histogram after it: who is asked what, and what a liar can reach."""

import dataclasses
import itertools

import numpy as np
import pytest
from flwr.app import Error, Message, MessageType
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from server.federation.checkpoints import read_checkpoint
from server.federation.cohort_sums import _nearest_possible, _require_possible, no_longer_than_median, site_factors
from server.federation.rounds import federate
from server.report.run_results import results_from_training
from server.results.document import ThresholdSource
from shared_model.errors import RoundError
from shared_model.messages import request_digest, unpack_request
from shared_model.messages.types import FEATURE_SUM, MEAN, SCORES
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.privacy.plan import PrivacyPlan
from tests.scripted_federation import (
    DEPLOYED,
    NODES,
    NUM_PATIENTS,
    SITES,
    Ledgers,
    SiteGrid,
    bytes_of,
    site_sum,
    stop_after,
    train,
)
from tests.server.results.test_document import PROVENANCE

TRAIN, EVALUATE = MessageType.TRAIN, MessageType.EVALUATE
LAST = 4


@pytest.fixture
def config(federation):
    return federation.config(*DEPLOYED, "evaluation.privacy=dp", "evaluation.target_epsilon=1000", has_lesions=False)


def expected_direction(config):
    sizes = [NUM_PATIENTS[site] for site in SITES]
    factors = np.array(site_factors(sizes, config.strategy))
    sums = factors[:, None] * np.stack([site_sum(site).astype(float) for site in SITES])
    total = no_longer_than_median(sums).sum(axis=0)
    return total / np.linalg.norm(total)


class TestOrder:
    def test_a_mean_then_training_then_a_histogram_then_the_test_lesions(self, config):
        grid = SiteGrid()
        train(config, grid)
        steps = list(dict.fromkeys((kind, request.server_round) for kind, _, request in grid.requests))
        trained = [(TRAIN, number) for number in range(1, LAST + 1)]
        assert steps == [(MEAN, 0), *trained, (SCORES, LAST + 1), (EVALUATE, LAST)]

    def test_every_request_after_the_mean_projects_it_out(self, config):
        grid = SiteGrid()
        training, _ = train(config, grid)
        direction = expected_direction(config)
        for kind, _, request in grid.requests:
            projection = request.constants["image_standardisation.projection"]
            expected = np.eye(320) - (kind != MEAN) * np.outer(direction, direction)
            np.testing.assert_allclose(projection, expected, atol=1e-6)
        np.testing.assert_array_equal(training.constants["image_standardisation.projection"], projection)

    def test_the_last_figures_are_of_the_scaled_network_at_the_threshold_of_training_patients(self, config):
        grid = SiteGrid()
        training, rounds = train(config, grid)
        assert all(finished.metrics is None for finished in rounds[:-1])
        assert 0 < training.last.metrics.threshold < 1
        (evaluated,) = {id(r): r for kind, site, r in grid.requests if (kind, site) == (EVALUATE, "MGH")}.values()
        assert bytes_of(evaluated.parameters) == bytes_of(training.parameters)
        results = results_from_training(training, config, predictions=None, provenance=PROVENANCE)
        assert results.final.threshold_source is ThresholdSource.SITE_TRAINING
        assert results.final.threshold == training.last.metrics.threshold

    def test_the_price_of_a_site_is_that_of_all_three_parts(self, config):
        training, rounds = train(config, SiteGrid())
        for site, state in training.last.sites.items():
            plan = PrivacyPlan.calibrate(config, NUM_PATIENTS[site])
            whole = plan.released(has_mean=True, num_rounds=LAST, has_histogram=True)
            assert state.privacy.epsilon == epsilon(whole, plan.delta)
        assert rounds[0].epsilon < rounds[-1].epsilon <= 8


class TestResumption:
    @pytest.mark.parametrize("stopped", [1, 3])
    def test_a_resumed_run_asks_for_no_second_mean_and_ends_the_same(self, config, federation, tmp_path, stopped):
        whole, _ = train(config, SiteGrid())
        again = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=str(tmp_path / "again")))
        stop_after(stopped, again, SiteGrid())
        grid = SiteGrid()
        resumed, _ = train(again, grid)
        assert grid.asked(MEAN) == {}
        assert bytes_of(resumed.parameters) == bytes_of(whole.parameters)
        assert bytes_of(resumed.constants) == bytes_of(whole.constants)
        assert resumed.last.metrics.threshold == whole.last.metrics.threshold

    def test_the_mean_is_on_disk_before_the_first_round(self, config, federation):
        grid = SiteGrid(refusals=[(1, node) for node in NODES])
        with pytest.raises(RoundError, match="valid replies in round 1"):
            train(config, grid)
        checkpoint = read_checkpoint(federation.folder / "run", config)
        assert checkpoint.rounds == ()
        assert set(checkpoint.sites) == set(SITES)
        grid = SiteGrid()
        train(config, grid)
        assert grid.asked(MEAN) == {}


class Spent(SiteGrid):
    """Sites that have the budget for one mean, one histogram and one evaluation each, and give it again if asked."""

    def __init__(self, budgets, *, cut_before=None, **settings):
        super().__init__(**settings)
        self._budgets, self._cut_before = budgets, cut_before

    def _answer(self, message):
        kind, node = message.metadata.message_type, message.metadata.dst_node_id
        if kind == self._cut_before:
            raise KeyboardInterrupt
        answer = super()._answer(message)
        digest = request_digest(unpack_request(message.content))
        if kind != TRAIN and not answer.has_error() and self._budgets.setdefault((kind, node), digest) != digest:
            return Message(Error(1000, "the budget is spent"), reply_to=message)
        return answer


class TestACrashInTheLastRound:
    """Who is back after it was not asked before, and must not change what the others are asked."""

    @pytest.mark.parametrize("cut_before", [SCORES, EVALUATE])
    @pytest.mark.parametrize("missed", [LAST, LAST + 1])
    def test_a_site_more_afterwards_changes_no_request_that_costs_privacy(self, config, cut_before, missed):
        budgets = {}
        with pytest.raises(KeyboardInterrupt):
            train(config, Spent(budgets, cut_before=cut_before, refusals=[(missed, 13)]))
        grid = Spent(budgets)
        resumed, rounds = train(config, grid)
        assert rounds[-1].num_sites == (2 if missed == LAST else 3)
        assert not any("the budget is spent" in failure for failure in rounds[-1].failures)
        assert grid.asked(TRAIN) == {}
        assert resumed.last.metrics.threshold is not None

    @pytest.mark.parametrize("cut_before", [SCORES, EVALUATE])
    def test_with_the_same_sites_it_ends_the_same(self, config, tmp_path, cut_before):
        whole, all_rounds = train(config, SiteGrid())
        again = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=str(tmp_path / "again")))
        with pytest.raises(KeyboardInterrupt):
            train(again, Spent({}, cut_before=cut_before))
        resumed, rounds = train(again, SiteGrid())
        assert bytes_of(resumed.parameters) == bytes_of(whole.parameters)
        found, expected = (dataclasses.replace(each[-1].result, seconds=0) for each in (rounds, all_rounds))
        assert found == expected
        assert rounds[-1].sites.keys() == all_rounds[-1].sites.keys()
        assert [s.privacy for s in rounds[-1].sites.values()] == [s.privacy for s in all_rounds[-1].sites.values()]


class TestWitnesses:
    def test_a_ledger_that_was_put_back_before_the_mean_is_noticed(self, config, tmp_path):
        ledgers, rounds = Ledgers(), []
        first, _ = train(config, SiteGrid(change_reply=ledgers.show))
        ledgers.restore("WFU", 0)
        again = dataclasses.replace(config, seed=1, run=dataclasses.replace(config.run, dir=str(tmp_path / "again")))
        grid = SiteGrid(change_reply=ledgers.show)
        federate(grid, again, on_round=rounds.append, witnesses=first.last.witnesses)
        assert any("the ledger of WFU does not continue" in warning for warning in rounds[0].warnings)


class TestAbsence:
    def test_a_site_may_miss_the_mean_and_take_part_in_the_rest(self, config):
        grid = SiteGrid(refusals=[(0, 13)])
        training, _ = train(config, grid)
        assert set(training.last.sites) == set(SITES)

    def test_a_site_may_miss_the_histogram(self, config):
        training, rounds = train(config, SiteGrid(refusals=[(LAST + 1, 13)]))
        assert training.last.metrics.threshold is not None
        assert any("refused" in failure for failure in rounds[-1].failures)

    def test_too_few_for_a_mean_is_an_error_and_nothing_is_trained(self, config):
        grid = SiteGrid(refusals=[(0, 12), (0, 13)])
        with pytest.raises(RoundError, match="Expected at least 2 valid replies in round 0, got 1"):
            train(config, grid)
        assert grid.asked(TRAIN) == {}


def lying(site, server_round, change):
    """A site that changes one of its sums."""

    def change_update(who, when, update):
        return change(update) if (who, when) == (site, server_round) else update

    return SiteGrid(change_update=change_update)


class TestLiars:
    @pytest.mark.parametrize("factor", [1e3, -1e6, 1e30])
    def test_a_sum_longer_than_any_honest_one_is_refused_and_named(self, config, factor, caplog):
        caplog.set_level("WARNING", "server.federation.exchange")
        train(config, lying("MGH", 0, lambda update: {FEATURE_SUM: update[FEATURE_SUM] * np.float32(factor)}))
        assert "Expected a sum of features no longer than" in caplog.text

    @pytest.mark.parametrize("axis", [0, 300])
    @pytest.mark.parametrize("liar", SITES)
    def test_one_of_three_turns_the_mean_by_a_part_however_long_its_sum(self, config, liar, axis):
        honest = expected_direction(config)

        def elsewhere(update):
            turned = np.zeros_like(update[FEATURE_SUM])
            # Nearly as long as may be: twice the patients that it declares, each with a vector of length 1.
            turned[axis] = -1.99 * NUM_PATIENTS[liar]
            return {FEATURE_SUM: turned}

        training, _ = train(config, lying(liar, 0, elsewhere))
        left = training.constants["image_standardisation.projection"] @ honest
        assert np.linalg.norm(left) < 0.6

    @given(
        lengths=hnp.arrays(np.float64, st.integers(2, 9), elements=st.floats(0.1, 1e3)),
        lie=hnp.arrays(np.float64, 3, elements=st.floats(-1e6, 1e6)),
    )
    def test_no_single_row_outweighs_two_or_more_that_point_one_way(self, lengths, lie):
        way = np.array([0.6, 0.0, 0.8])
        rows = no_longer_than_median(np.vstack([np.outer(lengths, way), lie]))
        honest, lied = float(rows[:-1].sum(axis=0) @ way), float(np.linalg.norm(rows[-1]))
        # It is no longer than one of the honest rows, and there is another beside that.
        assert lied <= lengths.max() * (1 + 1e-9)
        assert honest > lied
        total = rows.sum(axis=0)
        assert total @ way > 0
        turned = np.linalg.norm(total - (total @ way) * way) / np.linalg.norm(total)
        assert turned <= lied / honest + 1e-9

    def test_rows_below_the_median_length_stay_as_they_are(self):
        rows = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 100.0]])
        np.testing.assert_allclose(no_longer_than_median(rows), [[3, 4], [0, 0], [0, 5]])

    @pytest.mark.parametrize("change", [lambda counts: counts * 0 + 1e5, lambda counts: counts - 1e3])
    def test_a_histogram_of_more_patients_than_there_are_or_of_fewer_than_none_is_refused(self, config, change, caplog):
        caplog.set_level("WARNING", "server.federation.exchange")
        honest, _ = train(config, SiteGrid())
        other = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=config.run.dir + "2"))
        grid = lying("ISMD", LAST + 1, lambda update: {name: change(array) for name, array in update.items()})
        training, _ = train(other, grid)
        assert "Expected counts no farther than" in caplog.text
        assert abs(training.last.metrics.threshold - honest.last.metrics.threshold) < 0.2

    @pytest.mark.parametrize("deviations", [-5.0, 5.0])
    def test_a_site_that_moves_every_count_as_far_as_noise_moves_one_is_refused(self, config, deviations, caplog):
        # Of three sites one would so take away more patients than the others have, and with them the threshold.
        caplog.set_level("WARNING", "server.federation.exchange")
        std = PrivacyPlan.calibrate(config, NUM_PATIENTS["ISMD"]).histogram_noise_multiplier
        signs = np.resize([1, 1 if deviations < 0 else -1], config.histogram_bins).astype(np.float32)
        grid = lying("ISMD", LAST + 1, lambda update: dict.fromkeys(update, deviations * std * signs))
        training, _ = train(config, grid)
        assert "Expected counts no farther than" in caplog.text
        assert training.last.metrics.threshold is not None

    def test_sums_of_no_image_at_all_have_no_mean(self, config):
        grid = SiteGrid(change_update=lambda _, __, update: {name: array * 0 for name, array in update.items()})
        with pytest.raises(RoundError, match="Expected the sites' features to have a mean, got zero"):
            train(config, grid)

    def test_other_arrays_than_were_asked_for_are_refused(self, config):
        grid = SiteGrid(change_update=lambda _, when, update: {"other": update[FEATURE_SUM]} if not when else update)
        with pytest.raises(RoundError, match="Expected at least 2 valid replies in round 0, got 0"):
            train(config, grid)


class TestPossibleCounts:
    @given(hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(-50, 50)), st.floats(0.1, 100))
    def test_nothing_possible_is_nearer(self, counts, most):
        nearest = _nearest_possible(counts, most)
        assert nearest.min() >= 0
        assert nearest.sum() <= most * (1 + 1e-9)
        # The condition of a projection onto a convex set, at each of its corners.
        for corner in (np.zeros_like(counts), *(most * np.eye(len(counts)))):
            assert (counts - nearest) @ (corner - nearest) <= 1e-6

    def test_an_honest_site_is_never_refused_for_its_noise(self):
        rng = np.random.default_rng(0)
        for std, patients in itertools.product((0.0, 0.5, 2.4, 40.0), (1, 19, 400)):
            for _ in range(50):
                exact = rng.multinomial(2 * patients - 1, rng.dirichlet(np.full(12, 0.2))).astype(np.float64)
                noisy = exact + rng.normal(size=12) * std
                histogram = PatientHistogram(negatives=noisy[:6], positives=noisy[6:], noise_std=std)
                _require_possible(histogram, patients)


class TestFactors:
    def test_by_hand(self, config):
        mean = dataclasses.replace(config.strategy, aggregation="mean", max_site_weight=0.5)
        # Half, and a quarter each: 10^7 patients weigh as much as 10 and 10 together.
        assert site_factors([10, 10, 10**7], mean) == pytest.approx([1, 1, 2e-6])
        assert site_factors([10, 20, 30], dataclasses.replace(mean, max_site_weight=0.8)) == pytest.approx([1, 1, 1])
        median = dataclasses.replace(config.strategy, aggregation="median")
        assert site_factors([10, 20, 40], median) == pytest.approx([1, 0.5, 0.25])
        guarded = dataclasses.replace(config.strategy, max_site_share=1.25)
        sizes = np.array([10, 20, 10**7])
        shares = np.array(site_factors(sizes.tolist(), guarded)) * sizes
        assert shares.max() / shares.sum() <= 1.25 / 3 + 1e-9
