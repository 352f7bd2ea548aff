"""A run of one sum of moments: who is asked what, what is fitted, resumption, and what a liar can reach."""

import dataclasses

import numpy as np
import pytest
from flwr.app import MessageType
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from server.evaluation.ridge_head import LEAST_RIDGE
from server.federation.cohort_moments import _fit, _median_scales, _require_possible, _SiteSum
from server.federation.cohort_sums import site_factors
from shared_model.errors import ProtocolError, RoundError
from shared_model.messages.types import MEAN, MOMENT_SUM, MOMENTS, SCORES
from shared_model.metrics.roc import auroc
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.patient_moments import SECOND_WEIGHT, Moments, noise_edge, num_moments, patient_moments
from shared_model.privacy.plan import PrivacyPlan
from tests.scripted_federation import (
    NODES,
    NUM_PATIENTS,
    ONE_SHOT,
    SITES,
    SiteGrid,
    bytes_of,
    head_inputs_of,
    make_lesions,
    train,
)

TRAIN, EVALUATE = MessageType.TRAIN, MessageType.EVALUATE


@pytest.fixture
def config(federation):
    return federation.config(*ONE_SHOT, "evaluation.privacy=dp", has_lesions=False)


def weight_of(training):
    (weights,) = training.parameters.values()
    return weights.ravel().astype(np.float64)


def expected_direction(config, alpha):
    """Scikit-learn's ridge regression of the lesions of all sites together, as a unit vector."""
    factors = site_factors([NUM_PATIENTS[site] for site in SITES], config.strategy)
    inputs, signs, weights = [], [], []
    for site, factor in zip(SITES, factors, strict=True):
        rows, outcomes, patients = head_inputs_of(site)
        for patient in np.unique(patients):
            x, y = rows[patients == patient], outcomes[patients == patient]
            length = np.hypot(SECOND_WEIGHT * np.linalg.norm(x.T @ x / len(x)), np.linalg.norm(y @ x / len(x)))
            inputs.append(x)
            signs.append(y)
            weights.append(np.full(len(x), factor / len(x) / max(1.0, length)))
    ridge = Ridge(alpha=alpha, fit_intercept=False, solver="cholesky")
    ridge.fit(np.concatenate(inputs), np.concatenate(signs), sample_weight=np.concatenate(weights))
    return ridge.coef_ / np.linalg.norm(ridge.coef_)


def factors_and_patients(config):
    sizes = [NUM_PATIENTS[site] for site in SITES]
    factors = site_factors(sizes, config.strategy)
    return factors, float(np.dot(factors, sizes))


class TestFit:
    def test_without_privacy_the_head_is_ridge_regression_on_all_patients(self, federation):
        config = federation.config(*ONE_SHOT, "privacy=off", "strategy.aggregation=mean")
        training, rounds = train(config, SiteGrid())
        _, num_patients = factors_and_patients(config)
        weights = weight_of(training)
        # The bias is not compared: probabilities move it.
        found = weights[:-1] / np.linalg.norm(weights[:-1])
        expected = expected_direction(config, LEAST_RIDGE * num_patients)[:-1]
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)
        assert rounds[-1].metrics.auroc > 0.7

    def test_with_privacy_the_ridge_is_the_noise_of_the_plans(self, federation):
        config = federation.config(*ONE_SHOT, "strategy.aggregation=mean")
        training, _ = train(config, SiteGrid())
        factors, num_patients = factors_and_patients(config)
        weights = weight_of(training)
        stds = [
            factor * PrivacyPlan.calibrate(config, NUM_PATIENTS[site]).noise_multiplier
            for factor, site in zip(factors, SITES, strict=True)
        ]
        alpha = noise_edge(np.linalg.norm(stds), len(weights)) + LEAST_RIDGE * num_patients
        expected = expected_direction(config, alpha)[:-1]
        found = weights[:-1] / np.linalg.norm(weights[:-1])
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


class TestOrder:
    def test_moments_then_a_histogram_then_the_test_lesions(self, config):
        grid = SiteGrid()
        train(config, grid)
        steps = list(dict.fromkeys((kind, request.server_round) for kind, _, request in grid.requests))
        assert steps == [(MOMENTS, 1), (SCORES, 2), (EVALUATE, 1)]

    def test_the_price_of_a_site_is_the_target(self, config):
        training, _ = train(config, SiteGrid())
        for site, state in training.last.sites.items():
            plan = PrivacyPlan.calibrate(config, NUM_PATIENTS[site])
            assert state.privacy.epsilon == epsilon(
                plan.released(has_mean=True, num_rounds=1, has_histogram=True), plan.delta
            )
            assert 7.9 < state.privacy.epsilon <= 8

    def test_other_strategies_ask_for_no_moments(self, federation):
        grid = SiteGrid()
        train(federation.config(), grid)
        assert grid.asked(MOMENTS) == grid.asked(MEAN) == {}


class Cut(SiteGrid):
    """Stops the run before the first message of a kind."""

    def __init__(self, kind, **settings):
        super().__init__(**settings)
        self._kind = kind

    def _answer(self, message):
        if message.metadata.message_type == self._kind:
            raise KeyboardInterrupt
        return super()._answer(message)


class TestResumption:
    @pytest.mark.parametrize("cut_before", [MOMENTS, SCORES, EVALUATE])
    def test_a_killed_run_ends_the_same_and_asks_for_nothing_twice(self, config, tmp_path, cut_before):
        whole, _ = train(config, SiteGrid())
        again = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=str(tmp_path / "again")))
        with pytest.raises(KeyboardInterrupt):
            train(again, Cut(cut_before))
        grid = SiteGrid()
        resumed, _ = train(again, grid)
        assert (grid.asked(MOMENTS) == {}) == (cut_before != MOMENTS)
        assert (grid.asked(SCORES) == {}) == (cut_before == EVALUATE)
        assert bytes_of(resumed.parameters) == bytes_of(whole.parameters)
        assert resumed.last.metrics.threshold == whole.last.metrics.threshold


class TestAbsence:
    def test_two_of_three_are_fitted(self, config):
        training, rounds = train(config, SiteGrid(refusals=[(1, 13)]))
        assert rounds[-1].num_sites == 2
        assert set(training.last.sites) >= {"MGH", "WFU"}

    def test_too_few_are_an_error(self, config):
        with pytest.raises(RoundError, match="Expected at least 2 valid replies in round 1, got 1"):
            train(config, SiteGrid(refusals=[(1, 12), (1, 13)]))


def lying(site, change):
    def change_update(who, when, update):
        return {MOMENT_SUM: change(update[MOMENT_SUM])} if (who, when) == (site, 1) else update

    return SiteGrid(change_update=change_update)


WIDTH = head_inputs_of("MGH")[0].shape[1]


def negated_outcomes(total):
    """The sum of a site that swaps all outcomes."""
    return np.concatenate([total[:-WIDTH], -total[-WIDTH:]])


def negated_outcomes_alone(total):
    """All the length that a sum may have in outcomes, swapped."""
    cross = -total[-WIDTH:]
    return np.concatenate([0 * total[:-WIDTH], cross * np.float32(np.linalg.norm(total) / np.linalg.norm(cross))])


class TestLiars:
    @pytest.mark.parametrize("factor", [1e3, -1e6, 1e30])
    def test_a_sum_longer_than_any_honest_one_is_refused_and_named(self, config, factor, caplog):
        caplog.set_level("WARNING", "server.federation.exchange")
        _, rounds = train(config, lying("ISMD", lambda total: total * np.float32(factor)))
        assert "Expected a sum of moments no longer than" in caplog.text
        assert rounds[-1].num_sites == 2

    @pytest.mark.parametrize(
        "change", [lambda total: total[:-1], lambda total: total * np.float32(np.nan), lambda total: total[None]]
    )
    def test_other_shapes_and_numbers_that_are_none_are_refused(self, config, change):
        _, rounds = train(config, lying("ISMD", change))
        assert rounds[-1].num_sites == 2
        grid = SiteGrid(change_update=lambda _, when, update: {"other": update[MOMENT_SUM]} if when == 1 else update)
        with pytest.raises(RoundError, match="Expected at least 2 valid replies in round 1, got 0"):
            train(dataclasses.replace(config, run=dataclasses.replace(config.run, dir=config.run.dir + "2")), grid)

    @pytest.mark.parametrize("liar", range(3))
    def test_of_three_alike_one_that_spends_all_its_length_on_swapped_outcomes_turns_nothing_round(self, liar):
        num_patients, sums = 200, []
        for number in range(3):
            lesions = make_lesions(number, num_patients, WIDTH - 1)
            inputs = np.hstack([0.5 * lesions.clinical.numpy().astype(float), np.full((num_patients, 1), 0.1)])
            labels = lesions.labels.numpy().astype(float)
            total = sum(patient_moments(inputs[[row]], labels[[row]]) for row in range(num_patients))
            if number == liar:
                total = negated_outcomes_alone(total)
                total *= 2 * num_patients / np.linalg.norm(total)
            sums.append(_SiteSum(site=SITES[number], moments=total, num_patients=num_patients, noise_std=0.0))
        scales, named = _median_scales(sums, WIDTH)
        others = make_lesions(999, 600, WIDTH - 1)
        unguarded, guarded = (
            auroc(others.labels.numpy(), others.clinical.numpy() @ _fit(sums, factors, WIDTH)[:-1])
            for factors in (np.ones(3), scales)
        )
        assert unguarded < 0.5
        assert guarded > 0.6
        assert [sentence.split()[0] for sentence in named] == [SITES[liar]]

    @pytest.mark.parametrize(
        "lie",
        [
            lambda total: -total,
            lambda total: np.concatenate([-total[:-WIDTH], total[-WIDTH:]]),
            lambda total: negated_outcomes_alone(total) * np.float32(1.9 * 30 / np.linalg.norm(total)),
        ],
    )
    def test_moments_that_are_no_squares_are_refused(self, federation, lie, caplog):
        caplog.set_level("WARNING", "server.federation.exchange")
        _, rounds = train(federation.config(*ONE_SHOT, "privacy=off"), lying("ISMD", lie))
        assert "Expected moments that are squares of 30 declared patients" in caplog.text
        assert rounds[-1].num_sites == 2

    def test_the_longest_lie_in_outcomes_alone_does_not_hide_in_the_noise(self, federation, caplog):
        caplog.set_level("WARNING", "server.federation.exchange")
        config = federation.config(*ONE_SHOT, "privacy.target_epsilon=20")

        def longest(total):
            lie = negated_outcomes_alone(total)
            return lie * np.float32(1.9 * NUM_PATIENTS["MGH"] / np.linalg.norm(lie))

        _, rounds = train(config, lying("MGH", longest))
        assert "Expected moments that are squares of 40 declared patients" in caplog.text
        assert rounds[-1].num_sites == 2

    def test_moments_far_longer_than_those_of_the_others_are_shortened_and_named(self, federation):
        config = federation.config(*ONE_SHOT, "privacy=off")
        most = np.float32(1.9 * NUM_PATIENTS["ISMD"])

        def longest(total):
            second = total[:-WIDTH]
            return np.concatenate([second * most / np.linalg.norm(second), -total[-WIDTH:]])

        _, rounds = train(config, lying("ISMD", longest))
        assert rounds[-1].outliers == (
            "ISMD sent moments far longer than those of the others, which were shortened to their median",
        )

    def test_nobody_honest_is_named(self, federation):
        for number, privacy in enumerate(("privacy=off", "privacy.target_epsilon=8", "privacy.target_epsilon=0.5")):
            config = federation.config(*ONE_SHOT, privacy, run_dir=federation.folder / str(number))
            generator = np.random.default_rng(0)

            def noised(who, when, update, config=config, generator=generator):
                if when != 1 or config.privacy.target_epsilon is None:
                    return update
                std = PrivacyPlan.calibrate(config, NUM_PATIENTS[who]).noise_multiplier
                return {
                    name: array + np.float32(std * generator.normal(size=array.shape)) for name, array in update.items()
                }

            _, rounds = train(config, SiteGrid(change_update=noised))
            assert rounds[-1].num_sites == 3
            assert rounds[-1].outliers == ()

    def test_sums_of_zero_leave_a_network_that_scores_everybody_alike(self, federation):
        config = federation.config(*ONE_SHOT, "evaluation.threshold_from=held_out")
        grid = SiteGrid(change_update=lambda _, __, update: {name: array * 0 for name, array in update.items()})
        training, _ = train(config, grid)
        assert not weight_of(training)[:-1].any()


class TestPossible:
    @staticmethod
    def rows(kind, num_patients, width, generator):
        """Inputs and labels, a lesion a patient: ordinary ones, ones that the labels follow, or all alike."""
        inputs = generator.normal(size=(num_patients, width))
        if kind == "alike":
            inputs[:] = inputs[0]
        labels = (inputs[:, 0] > 0 if kind == "separable" else generator.random(num_patients) < 0.4).astype(np.float64)
        return inputs / np.sqrt(width) * generator.choice([0.1, 1.0, 30.0]), labels

    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from(["ordinary", "separable", "alike"]),
        st.integers(1, 60),
        st.integers(1, 20),
        st.sampled_from([0.0, 0.3, 3.0, 100.0]),
        st.integers(0, 2**32),
    )
    def test_no_honest_sum_is_refused(self, kind, num_patients, width, noise_std, seed):
        generator = np.random.default_rng(seed)
        inputs, labels = self.rows(kind, num_patients, width, generator)
        total = sum(patient_moments(inputs[[row]], labels[[row]]) for row in range(num_patients))
        sent = (total + noise_std * generator.normal(size=total.shape)).astype(np.float32).astype(np.float64)
        # Sizes are declared rounded down: more than half is told.
        _require_possible(Moments.from_vector(sent, width=width), num_patients // 2 + 1, noise_std)

    @pytest.mark.parametrize("factor", [1.0, 2.0])
    @pytest.mark.parametrize("width", [60, 120])
    def test_the_bound_is_that_of_noise_of_this_deviation(self, width, factor):
        """Of nobody's moments with the noise of the plan none of 300 is refused; with twice as much many are."""
        generator, num_refused = np.random.default_rng(0), 0
        for _ in range(300):
            sent = 50.0 * factor * generator.normal(size=num_moments(width))
            try:
                _require_possible(Moments.from_vector(sent, width=width), 1, 50.0)
            except ProtocolError:
                num_refused += 1
        assert num_refused == 0 if factor == 1.0 else num_refused > 100


def test_every_node_is_asked_once(config):
    grid = SiteGrid()
    train(config, grid)
    assert grid.asked(MOMENTS) == {1: [SITES[NODES.index(node)] for node in NODES]}
