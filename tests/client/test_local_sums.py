"""Sums over training patients: one release each, in its round, priced with the training they belong to."""

import dataclasses
import itertools

import numpy as np
import pytest

from client.data.splits import Role
from client.local_release import load_network
from client.local_round import train_locally
from client.local_sums import count_scores_locally, sum_features_locally, sum_moments_locally
from client.privacy.ledger_entries import Committed, Reserved, Unprotected
from client.training.feature_sum import feature_sum
from client.training.moment_sum import moment_sum
from shared_model.errors import BudgetError, PolicyError, ProtocolError, TimeLimitError
from shared_model.messages import train_reply_to_bytes
from shared_model.messages.types import CLASSES, FEATURE_SUM, MOMENT_SUM
from shared_model.network.scoring import predict
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.privacy.plan import PrivacyPlan
from shared_model.system.deadline import Deadline
from tests.noise_scale import scale_p_value
from tests.one_site import NUM_DECLARED, contents_of, releases_of, request_of

IMAGE = ("model.modality=image", "model.backbone=efficientnet_lite0", "model.image_components=0")
DEPLOYED = (
    *IMAGE,
    "model.feature_constants=private_mean",
    "evaluation.threshold_from=training",
    "data.validation_fraction=0",
    "training.num_rounds=3",
)
LAST = 3
ONE_SHOT = (
    "strategy=one_shot",
    "training.num_rounds=1",
    "model.modality=clinical",
    "model.image_components=0",
    "evaluation.threshold_from=training",
    "data.validation_fraction=0",
)


@pytest.fixture
def deployed(make_config):
    return make_config(*DEPLOYED)


@pytest.fixture
def home(open_home, deployed):
    return open_home(deployed)


def whole_run(config, home):
    yield sum_features_locally(request_of(config, 0), home)
    for server_round in range(1, LAST + 1):
        yield train_locally(request_of(config, server_round), home)
    yield count_scores_locally(request_of(config, LAST + 1), home)


class TestPrice:
    def test_the_run_costs_its_target_and_every_reply_says_what_was_spent_so_far(self, deployed, home):
        spent = [reply.privacy.epsilon for reply in whole_run(deployed, home)]
        assert all(later > earlier for earlier, later in itertools.pairwise(spent))
        assert 7.95 < spent[-1] <= 8
        plan = PrivacyPlan.calibrate(deployed, NUM_DECLARED)
        assert spent[0] == epsilon(plan.released(has_mean=True, num_rounds=0, has_histogram=False), plan.delta)

    def test_the_ledger_holds_a_release_of_sensitivity_1_with_the_noise_of_the_plan(self, deployed, home):
        list(whole_run(deployed, home))
        plan = PrivacyPlan.calibrate(deployed, NUM_DECLARED)
        mean, *_, histogram = releases_of(home)
        for release, noise, server_round in (
            (mean, plan.mean_noise_multiplier, 0),
            (histogram, plan.histogram_noise_multiplier, LAST + 1),
        ):
            assert release.purpose == "training"
            assert release.server_round == server_round
            assert release.max_grad_norm == 1
            assert release.mechanism.noise_multiplier == noise
            assert (release.mechanism.sampling_rate, release.mechanism.num_steps) == (1, 1)
        assert len(contents_of(home, Committed)) == len(contents_of(home, Reserved)) == LAST + 2

    def test_a_second_mean_of_the_same_run_would_break_its_promise(self, deployed, home):
        list(whole_run(deployed, home))
        request = request_of(deployed, 0)
        other = dataclasses.replace(request, parameters={n: a + 1 for n, a in request.parameters.items()})
        with pytest.raises(BudgetError, match="to keep its promise of epsilon 8"):
            sum_features_locally(other, home)

    def test_too_little_noise_for_the_policy(self, deployed, open_home):
        plan = PrivacyPlan.calibrate(deployed, NUM_DECLARED)
        strict = open_home(deployed, min_noise_multiplier=plan.mean_noise_multiplier + 0.01)
        with pytest.raises(PolicyError, match="Expected noise_multiplier="):
            sum_features_locally(request_of(deployed, 0), strict)
        assert not releases_of(strict)

    def test_too_little_noise_in_one_part_is_refused_before_any_part_is_paid_for(self, make_config, open_home):
        config = make_config(*DEPLOYED, "privacy.histogram_share=0.4", "privacy.mean_share=0.01")
        plan = PrivacyPlan.calibrate(config, NUM_DECLARED)
        least = plan.histogram_noise_multiplier
        assert least < min(plan.noise_multiplier, plan.mean_noise_multiplier)
        strict = open_home(config, min_noise_multiplier=least + 0.01)
        for answer, server_round in ((sum_features_locally, 0), (train_locally, 1)):
            with pytest.raises(PolicyError, match="Expected noise_multiplier="):
                answer(request_of(config, server_round), strict)
        assert not releases_of(strict)


class TestReply:
    def test_a_repeated_request_gets_the_same_bytes(self, deployed, home):
        for answer, server_round in ((sum_features_locally, 0), (count_scores_locally, LAST + 1)):
            first, second = (answer(request_of(deployed, server_round), home) for _ in range(2))
            assert train_reply_to_bytes(first) == train_reply_to_bytes(second)
        assert len(contents_of(home, Reserved)) == 2

    def test_no_reply_holds_what_was_summed_up(self, deployed, home):
        lesions = home.data.lesions(Role.TRAIN)
        sent = sum_features_locally(request_of(deployed, 0), home).update[FEATURE_SUM]
        assert sent.dtype == np.float32
        assert np.linalg.norm(sent - feature_sum(lesions).numpy()) > 10

    def test_without_privacy_sums_are_exact_and_the_ledger_says_so(self, make_config, open_home):
        config = make_config(*DEPLOYED, "privacy=off", "evaluation.num_bins=50")
        open_to_all = open_home(config)
        lesions = open_to_all.data.lesions(Role.TRAIN)
        reply = sum_features_locally(request_of(config, 0), open_to_all)
        np.testing.assert_allclose(reply.update[FEATURE_SUM], feature_sum(lesions).float().numpy())
        request = request_of(config, LAST + 1)
        counts = count_scores_locally(request, open_to_all)
        network = load_network(request, open_to_all)
        exact = PatientHistogram.from_scores(
            lesions.labels.numpy(), predict(network, lesions), lesions.patients.numpy(), 50
        )
        for label in CLASSES:
            np.testing.assert_allclose(counts.update[label], getattr(exact, label), rtol=1e-6)
        assert (reply.privacy, counts.privacy) == (None, None)
        assert [type(release) for release in releases_of(open_to_all)] == [Unprotected]


class TestRefused:
    @pytest.mark.parametrize(
        ("answer", "server_round"),
        [(sum_features_locally, 1), (sum_features_locally, 4), (count_scores_locally, 0), (count_scores_locally, 3)],
    )
    def test_in_another_round(self, deployed, home, answer, server_round):
        with pytest.raises(ProtocolError, match=r"to be asked for in round"):
            answer(request_of(deployed, server_round), home)
        assert not releases_of(home)

    @pytest.mark.parametrize(("answer", "server_round"), [(sum_features_locally, 0), (count_scores_locally, LAST + 1)])
    def test_what_is_no_part_of_the_run(self, make_config, open_home, answer, server_round):
        config = make_config(*IMAGE)
        site = open_home(config)
        with pytest.raises(ProtocolError, match="which is no part of this run's plan"):
            answer(request_of(config, server_round), site)
        assert not releases_of(site)

    @pytest.mark.parametrize(("answer", "server_round"), [(sum_features_locally, 0), (count_scores_locally, LAST + 1)])
    def test_parameters_of_another_network(self, deployed, home, answer, server_round):
        request = dataclasses.replace(request_of(deployed, server_round), parameters={})
        with pytest.raises(ProtocolError, match="Expected the parameters of the configured network"):
            answer(request, home)
        assert not releases_of(home)

    def test_training_takes_no_round_of_a_sum(self, deployed, home):
        for server_round in (0, LAST + 1):
            with pytest.raises(ProtocolError, match=rf"Expected round {server_round} in \[1, 3\]"):
                train_locally(request_of(deployed, server_round), home)


def test_out_of_time_the_same_request_goes_on_at_no_new_cost(deployed, home):
    class Passed(Deadline):
        def require(self, *_):
            raise TimeLimitError("too late")

    late = dataclasses.replace(home, deadline=Passed(None))
    with pytest.raises(TimeLimitError, match="too late"):
        sum_features_locally(request_of(deployed, 0), late)
    sum_features_locally(request_of(deployed, 0), home)
    assert len(contents_of(home, Reserved)) == 1


class TestMoments:
    @pytest.fixture
    def one_shot(self, make_config):
        return make_config(*ONE_SHOT)

    @pytest.fixture
    def site(self, open_home, one_shot):
        return open_home(one_shot)

    def test_with_the_histogram_they_cost_the_target(self, one_shot, site):
        first = sum_moments_locally(request_of(one_shot), site)
        last = count_scores_locally(request_of(one_shot, 2), site)
        assert first.privacy.epsilon < 7.95 < last.privacy.epsilon <= 8
        plan = PrivacyPlan.calibrate(one_shot, NUM_DECLARED)
        assert first.privacy.epsilon == epsilon([plan.mechanism(1)], plan.delta)

    def test_the_ledger_holds_one_release_of_sensitivity_1_with_the_noise_of_the_plan(self, one_shot, site):
        sum_moments_locally(request_of(one_shot), site)
        (release,) = releases_of(site)
        assert (release.purpose, release.server_round, release.max_grad_norm) == ("training", 1, 1)
        mechanism = release.mechanism
        assert mechanism.noise_multiplier == PrivacyPlan.calibrate(one_shot, NUM_DECLARED).noise_multiplier
        assert (mechanism.sampling_rate, mechanism.num_steps) == (1, 1)

    def test_other_constants_or_parameters_get_no_second_sum(self, one_shot, site):
        sum_moments_locally(request_of(one_shot), site)
        count_scores_locally(request_of(one_shot, 2), site)
        request = request_of(one_shot)
        other = dataclasses.replace(request, parameters={n: a + 1 for n, a in request.parameters.items()})
        with pytest.raises(BudgetError, match="to keep its promise of epsilon 8"):
            sum_moments_locally(other, site)

    def test_a_repeated_request_gets_the_same_bytes(self, one_shot, site):
        first, second = (sum_moments_locally(request_of(one_shot), site) for _ in range(2))
        assert train_reply_to_bytes(first) == train_reply_to_bytes(second)
        assert len(contents_of(site, Reserved)) == 1

    def test_the_reply_is_the_sum_and_noise_of_the_plan(self, one_shot, site):
        request = request_of(one_shot)
        exact = moment_sum(load_network(request, site), site.data.lesions(Role.TRAIN)).numpy()
        sent = sum_moments_locally(request, site).update[MOMENT_SUM]
        assert (sent.dtype, sent.shape) == (np.float32, exact.shape)
        std = PrivacyPlan.calibrate(one_shot, NUM_DECLARED).noise_multiplier
        noise = sent - exact
        # The noise is drawn from the operating system: a right reply fails once in a million runs.
        assert scale_p_value(noise, std) > 1e-6
        assert scale_p_value(noise, std / 5) < 1e-6
        assert scale_p_value(noise, std * 5) < 1e-6

    def test_without_privacy_the_sum_is_exact_and_the_ledger_says_so(self, make_config, open_home):
        config = make_config(*ONE_SHOT, "privacy=off", "evaluation.num_bins=50")
        site, request = open_home(config), request_of(config)
        exact = moment_sum(load_network(request, site), site.data.lesions(Role.TRAIN))
        np.testing.assert_array_equal(sum_moments_locally(request, site).update[MOMENT_SUM], exact.float().numpy())
        assert [type(release) for release in releases_of(site)] == [Unprotected]

    def test_too_little_noise_for_the_policy(self, one_shot, open_home):
        least = PrivacyPlan.calibrate(one_shot, NUM_DECLARED).noise_multiplier
        strict = open_home(one_shot, min_noise_multiplier=least + 0.01)
        with pytest.raises(PolicyError, match="Expected noise_multiplier="):
            sum_moments_locally(request_of(one_shot), strict)
        assert not releases_of(strict)

    @pytest.mark.parametrize("server_round", [0, 2])
    def test_in_another_round(self, one_shot, site, server_round):
        with pytest.raises(ProtocolError, match="Expected a sum of moments to be asked for in round 1"):
            sum_moments_locally(request_of(one_shot, server_round), site)
        assert not releases_of(site)

    def test_a_run_has_either_updates_or_moments(self, one_shot, deployed, site, home):
        with pytest.raises(ProtocolError, match="Expected no request for an update with strategy=one_shot"):
            train_locally(request_of(one_shot), site)
        with pytest.raises(ProtocolError, match="a sum of moments, which is no part of this run's plan"):
            sum_moments_locally(request_of(deployed), home)
        assert not releases_of(site)
        assert not releases_of(home)

    def test_a_policy_may_forbid_it(self, one_shot, open_home):
        with pytest.raises(PolicyError, match=r"Expected strategy\.name=one_shot to be one of \['fedavgm'\]"):
            open_home(one_shot, fields={"strategy.name": ["fedavgm"]})
