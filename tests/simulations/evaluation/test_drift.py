"""Drift: differences against a second way to them, what chance makes, and the direction that constants hold."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from server.evaluation.predictions import Predictions
from server.evaluation.private_mean import constants_without
from server.federation.cohort_sums import site_factors
from shared_model.config import compose
from shared_model.data.lesions import Lesions
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.fusion import build_network
from shared_model.network.standardisation import FeatureConstants
from shared_model.network.state import load_feature_constants
from shared_model.privacy.plan import PrivacyPlan
from shared_model.vocabulary import clinical_width
from simulations.evaluation.drift import (
    by_chance,
    cosine_left_by_noise,
    drift_from_own_test,
    feature_drift,
    largest_gap,
    private_direction,
    total_variation,
)

values = st.lists(st.integers(0, 6), min_size=1, max_size=30)


@given(values, values)
def test_the_largest_gap_is_between_shares_up_to_a_value(first, second):
    gaps = [abs(sum(x <= v for x in first) / len(first) - sum(x <= v for x in second) / len(second)) for v in range(7)]
    assert largest_gap(first, second) == pytest.approx(max(gaps), abs=1e-12)


def test_the_largest_gap_is_the_statistic_of_kolmogorov_and_smirnov():
    generator = np.random.default_rng(7)
    first, second = generator.normal(size=40), generator.normal(0.3, 1.2, size=55)
    assert largest_gap(first, second) == pytest.approx(ks_2samp(first, second).statistic)


@given(values, values)
def test_total_variation_is_what_must_be_moved(first, second):
    moved = sum(max(0.0, first.count(v) / len(first) - second.count(v) / len(second)) for v in range(7))
    assert total_variation(first, second) == pytest.approx(moved, abs=1e-12)
    assert 0 <= total_variation(first, second) <= 1


def predictions(labels, scores, patients=None, **attributes):
    count = len(scores)
    return Predictions(
        labels=np.asarray(labels, dtype=np.int64),
        scores=np.asarray(scores, dtype=float),
        patients=np.arange(count) if patients is None else np.asarray(patients),
        attributes={name: tuple(value) for name, value in attributes.items()},
    )


def random_predictions(generator, count, *, shift=0.0):
    labels = generator.integers(0, 2, count)
    scores = np.clip(generator.normal(0.4 + shift + 0.2 * labels, 0.15, count), 0, 1)
    return predictions(labels, scores, breast_density=generator.choice(["1", "2", "3"], count))


def by_name(drift):
    return {difference.name: difference for difference in drift.differences}


def test_what_is_not_drift_seldom_exceeds_chance_and_what_is_does():
    generator = np.random.default_rng(0)
    exceeded, found = 0, 0
    for seed in range(40):
        own = random_predictions(generator, 80)
        drift = drift_from_own_test(own, random_predictions(generator, 60), has_outcomes=True, seed=seed)
        exceeded += by_name(drift)["score"].is_drift
        moved = drift_from_own_test(own, random_predictions(generator, 60, shift=0.2), has_outcomes=True, seed=seed)
        found += by_name(moved)["score"].is_drift
    # 5 % of 40 is 2; 8 or more has a probability of 0.001.
    assert exceeded <= 7
    assert found == 40


def test_chance_is_of_patients_and_not_of_their_views():
    generator = np.random.default_rng(1)
    scores = np.repeat(generator.random(60), 4)
    patients = np.repeat(np.arange(60), 4)

    def measure(first, second):
        return largest_gap(scores[first], scores[second])

    together = by_chance(measure, patients, 30, np.random.default_rng(2))
    apart = by_chance(measure, np.arange(240), 120, np.random.default_rng(2))
    # Four equal views are one observation: the standard deviation is twice as large.
    assert together / apart == pytest.approx(2, rel=0.25)


def test_the_same_lesions_do_not_differ():
    own = random_predictions(np.random.default_rng(3), 50)
    drift = drift_from_own_test(own, own, has_outcomes=True, seed=0)
    assert {d.name for d in drift.differences} == {
        *("score", "score of malignant lesions", "score of benign lesions", "outcome", "breast_density"),
    }
    assert {d.value for d in drift.differences} == {0.0}
    assert (drift.num_reference_lesions, drift.num_reference_patients) == (50, 50)


def test_without_outcomes_no_label_counts():
    own = random_predictions(np.random.default_rng(3), 50)
    drift = drift_from_own_test(own, own, has_outcomes=False, seed=0)
    assert {d.name for d in drift.differences} == {"score", "breast_density"}


def test_a_run_without_test_lesions_has_nothing_to_compare():
    drift = drift_from_own_test(None, random_predictions(np.random.default_rng(3), 50), has_outcomes=True, seed=0)
    assert (drift.num_reference_lesions, drift.differences) == (None, ())


def test_one_class_has_no_scores_of_the_other():
    own = random_predictions(np.random.default_rng(3), 50)
    benign = predictions([0, 0, 0], [0.1, 0.2, 0.3])
    assert "score of malignant lesions" not in by_name(drift_from_own_test(own, benign, has_outcomes=True, seed=0))


def private_network(direction, tmp_path):
    config = compose(
        [
            *("preset=smoke", f"run.dir={tmp_path}", "model.feature_constants=private_mean"),
            "model.image_components=0",
        ]
    )
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    load_feature_constants(network, constants_without(direction))
    return network, config


def lesions_around(direction, spread, generator, count=40):
    features = direction + spread * generator.normal(size=(count, len(direction))) / np.sqrt(len(direction))
    return Lesions(
        images=torch.from_numpy(features.astype(np.float32)),
        has_image=torch.ones(count, dtype=torch.bool),
        clinical=torch.zeros(count, 1),
        labels=torch.zeros(count),
        patients=torch.arange(count) // 2,
    )


def test_the_network_gives_back_the_direction_that_sites_bought(tmp_path):
    generator = np.random.default_rng(4)
    direction = generator.normal(size=FEATURE_WIDTH)
    direction /= np.linalg.norm(direction)
    network, config = private_network(direction, tmp_path)
    assert abs(private_direction(network.image_standardisation) @ direction) == pytest.approx(1, abs=1e-5)
    same = feature_drift(network, lesions_around(direction, 0.5, generator), config, declared=[20], num_resamples=50)
    assert same.is_cosine
    assert same.num_patients == 20
    assert same.value > 0.98
    other = generator.normal(size=FEATURE_WIDTH)
    other -= (other @ direction) * direction
    turned = direction + other / np.linalg.norm(other)
    found = feature_drift(network, lesions_around(turned, 0.01, generator), config, declared=[20], num_resamples=50)
    assert found.value == pytest.approx(np.sqrt(0.5), abs=0.01)
    assert found.interval.low <= found.value + 0.01
    assert found.interval.high >= found.value - 0.01


@pytest.mark.parametrize("declared", [[20, 20], [30, 300, 80], [5]])
def test_the_cosine_that_noise_leaves_is_found_by_drawing_it(declared, tmp_path):
    _, config = private_network(np.eye(FEATURE_WIDTH)[0], tmp_path)
    generator = np.random.default_rng(6)
    plan = PrivacyPlan.calibrate(config, 10)
    factors = site_factors(declared, config.strategy)
    cosines = []
    for _ in range(300):
        total = np.zeros(FEATURE_WIDTH)
        for factor, count in zip(factors, declared, strict=True):
            total += factor * plan.mean_noise_multiplier * generator.normal(size=FEATURE_WIDTH)
            total[0] += factor * 0.9 * count
        cosines.append(total[0] / np.linalg.norm(total))
    assert cosine_left_by_noise(0.9, declared, config) == pytest.approx(np.mean(cosines), abs=0.015)


def test_without_privacy_no_noise_is_left(tmp_path):
    config = compose(
        [
            "preset=smoke",
            "privacy=off",
            f"run.dir={tmp_path}",
            "model.feature_constants=private_mean",
            "model.image_components=0",
        ]
    )
    assert cosine_left_by_noise(0.9, [10, 20], config) == 1


def test_public_constants_say_how_far_the_mean_moved(tmp_path):
    config = compose(["preset=smoke", f"run.dir={tmp_path}"])
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    mean = np.full(FEATURE_WIDTH, 0.1, dtype=np.float32)
    projection = np.eye(FEATURE_WIDTH, 4, dtype=np.float32)
    load_feature_constants(network, FeatureConstants(mean=mean, projection=projection))
    generator = np.random.default_rng(8)
    here = lesions_around(mean, 0.5, generator, count=400)
    there = lesions_around(mean + 0.3, 0.5, generator, count=400)
    near, far = (feature_drift(network, part, config, declared=[9], num_resamples=50) for part in (here, there))
    assert (near.is_cosine, near.without_drift) == (False, None)
    # A second way, and what 200 patients leave of a mean of zero.
    vectors = (there.images.numpy() - mean)[:, :4].reshape(200, 2, 4).mean(axis=1)
    by_hand = np.linalg.norm(vectors.mean(axis=0)) / np.sqrt((vectors**2).sum(axis=1).mean())
    assert far.value == pytest.approx(by_hand, rel=1e-4)
    assert near.value < 3 / np.sqrt(200) < 0.9 < far.value


def test_features_that_are_used_as_they_are_have_no_reference(tmp_path):
    config = compose(["preset=smoke", f"run.dir={tmp_path}", "model.image_components=0"])
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    lesions = lesions_around(np.ones(FEATURE_WIDTH), 0.1, np.random.default_rng(5))
    assert feature_drift(network, lesions, config, declared=[9], num_resamples=10) is None


def test_a_network_of_columns_alone_has_no_drift_of_features(tmp_path):
    config = compose(["preset=smoke", f"run.dir={tmp_path}", "model.modality=clinical"])
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    lesions = lesions_around(np.ones(4), 0.1, np.random.default_rng(5))
    assert feature_drift(network, lesions, config, declared=[20], num_resamples=10) is None
