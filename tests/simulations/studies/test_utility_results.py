"""Means, deviations and intervals of the privacy-utility study, by a second way."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from server.evaluation.predictions import Predictions
from shared_model.system.seeding import numpy_generator
from simulations.studies.utility_results import find_result, utility_results

LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1])
PATIENTS = np.array([0, 0, 1, 1, 2, 3, 4, 5])


@pytest.fixture
def finished(make_row):
    """Make a run with the AUC of these scores, and its predictions."""

    def make(run, seed, scores, *, epsilon, labels=LABELS, by_site=()):
        row = make_row(run, seed=seed, epsilon=epsilon, by_site=by_site, auroc=float(roc_auc_score(labels, scores)))
        return row, Predictions(labels=np.asarray(labels), scores=np.asarray(scores), patients=PATIENTS, attributes={})

    return make


def scores_of(seed):
    return np.random.default_rng(seed).random(len(LABELS)) + 0.3 * LABELS


def test_means_deviations_and_intervals_equal_a_loop(finished):
    runs = [finished("image, epsilon 8", seed, scores_of(seed), epsilon=8.0) for seed in range(3)]
    (result,) = utility_results(runs, num_resamples=40)
    values = [roc_auc_score(LABELS, scores_of(seed)) for seed in range(3)]
    assert (result.name, result.epsilon, result.num_seeds) == ("image", 8.0, 3)
    assert result.auroc == pytest.approx(np.mean(values))
    assert result.deviation == pytest.approx(np.std(values, ddof=1))
    # All seeds see the same patients in every resample, so the loop draws them once.
    seed = int(numpy_generator(0, "utility").integers(2**63))
    generator, names, means = np.random.default_rng(seed), np.unique(PATIENTS), []
    while len(means) < 40:
        drawn = names[generator.integers(len(names), size=len(names))]
        rows = np.concatenate([np.flatnonzero(name == PATIENTS) for name in drawn])
        if 0 < LABELS[rows].mean() < 1:
            means.append(np.mean([roc_auc_score(LABELS[rows], scores_of(seed)[rows]) for seed in range(3)]))
    assert [result.interval.low, result.interval.high] == pytest.approx(np.percentile(means, [2.5, 97.5]))


def test_one_result_for_every_name_and_epsilon_in_their_order(finished):
    names = ["image, epsilon 8", "image, no privacy", "descriptors alone, epsilon 8"]
    epsilons = [8.0, None, 8.0]
    runs = [
        finished(name, seed, scores_of(seed), epsilon=epsilon)
        for seed in (0, 1)
        for name, epsilon in zip(names, epsilons, strict=True)
    ]
    results = utility_results(runs, num_resamples=10)
    assert [(result.name, result.epsilon) for result in results] == [
        ("image", 8.0),
        ("image", None),
        ("descriptors alone", 8.0),
    ]
    assert find_result(results, "image", None) is results[1]
    assert find_result(results, "image", 4.0) is None


def test_one_seed_has_no_deviation_and_an_interval(finished):
    (result,) = utility_results([finished("image, epsilon 8", 0, scores_of(0), epsilon=8.0)], num_resamples=20)
    assert result.deviation is None
    assert result.interval.low <= result.auroc <= result.interval.high


def test_seeds_with_other_test_lesions_have_no_common_interval(finished):
    other = LABELS[::-1].copy()
    runs = [
        finished("image, no privacy", 0, scores_of(0), epsilon=None),
        finished("image, no privacy", 1, scores_of(1), epsilon=None, labels=other),
    ]
    (result,) = utility_results(runs, num_resamples=10)
    assert result.interval is None
    assert result.name == "image"


def test_a_run_without_an_auc_is_an_error(make_row, finished):
    _, predictions = finished("image, epsilon 8", 0, scores_of(0), epsilon=8.0)
    with pytest.raises(ValueError, match="Expected test lesions of both classes in every run of image, epsilon 8"):
        utility_results([(make_row("image, epsilon 8"), predictions)], num_resamples=10)


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ([(("A", 0.6), ("B", 0.9)), (("A", 0.5), ("B", 0.8)), (("A", 0.7), ("B", None))], ("A", 0.6)),
        ([(("A", 0.6), ("B", 0.9)), (("A", 0.9), ("B", 0.5)), (("A", 0.7), ("B", 0.8))], (None, 0.6)),
        ([(("A", 0.6),), (), (("A", 0.7),)], (None, None)),
    ],
    ids=["the same", "another", "none"],
)
def test_the_worst_hospital_is_that_of_every_seed(finished, sites, expected):
    runs = [
        finished("x, epsilon 8", seed, scores_of(seed), epsilon=8.0, by_site=by_site)
        for seed, by_site in enumerate(sites)
    ]
    (result,) = utility_results(runs, num_resamples=10)
    assert (result.worst_site, result.worst_auroc) == (expected[0], pytest.approx(expected[1]))
