"""Closed-form variance against double loops, published formulas, the bootstrap and simulated truth."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from shared_model.metrics.delong import aurocs, compare

TOLERANCE = 1e-9


def kernel(malignant, benign):
    return float(malignant > benign) + 0.5 * float(malignant == benign)


def naive(labels, scores, patients):
    """Obuchowski 1997, equations for two models, as sums over pairs and patients."""
    names = sorted(set(patients))
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    values = [np.mean([kernel(s[i], s[j]) for i in positive for j in negative]) for s in scores]
    v10 = [{i: np.mean([kernel(s[i], s[j]) for j in negative]) for i in positive} for s in scores]
    v01 = [{j: np.mean([kernel(s[i], s[j]) for i in positive]) for j in negative} for s in scores]

    def deviation(model, parts, patient, rows):
        mine = [row for row in rows if patients[row] == patient]
        return sum(parts[model][row] for row in mine) - len(mine) * values[model]

    m, n = len(positive), len(negative)
    num_10 = len({patients[i] for i in positive})
    num_01 = len({patients[j] for j in negative})
    covariance = np.zeros((len(scores), len(scores)))
    for a in range(len(scores)):
        for b in range(len(scores)):
            s10 = sum(deviation(a, v10, p, positive) * deviation(b, v10, p, positive) for p in names)
            s01 = sum(deviation(a, v01, p, negative) * deviation(b, v01, p, negative) for p in names)
            ab = sum(deviation(a, v10, p, positive) * deviation(b, v01, p, negative) for p in names)
            ba = sum(deviation(b, v10, p, positive) * deviation(a, v01, p, negative) for p in names)
            covariance[a, b] = (
                s10 * num_10 / ((num_10 - 1) * m * m)
                + s01 * num_01 / ((num_01 - 1) * n * n)
                + (ab + ba) * len(names) / ((len(names) - 1) * m * n)
            )
    return np.array(values), covariance


def classic(labels, scores):
    """DeLong 1988 through the sample covariances of the placements."""
    positive, negative = scores[:, labels == 1], scores[:, labels == 0]
    v10 = np.array([[np.mean([kernel(x, y) for y in n]) for x in p] for p, n in zip(positive, negative, strict=True)])
    v01 = np.array([[np.mean([kernel(x, y) for x in p]) for y in n] for p, n in zip(positive, negative, strict=True)])
    return np.cov(v10) / positive.shape[1] + np.cov(v01) / negative.shape[1]


def models(seed, num_lesions=60, num_steps=8):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, num_lesions)
    scores = generator.normal(size=(2, num_lesions)) + labels
    if num_steps:
        scores = np.round(scores * num_steps) / num_steps
    return labels, scores, generator.integers(0, num_lesions // 3, num_lesions)


@pytest.mark.parametrize("seed", range(5))
def test_independent_lesions_equal_the_classic_formula(seed):
    labels, scores, _ = models(seed)
    found = aurocs(labels, scores)
    np.testing.assert_allclose(found.values, [roc_auc_score(labels, s) for s in scores], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.covariance, classic(labels, scores), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("seed", range(5))
def test_lesions_of_patients_equal_the_double_loop(seed):
    labels, scores, patients = models(seed)
    values, covariance = naive(labels, scores, patients)
    found = aurocs(labels, scores, patients)
    np.testing.assert_allclose(found.values, values, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.covariance, covariance, rtol=0, atol=TOLERANCE)


def test_copies_of_every_lesion_add_no_certainty():
    labels, scores, _ = models(1)
    once = aurocs(labels, scores)
    patients = np.arange(len(labels))
    twice = aurocs(np.tile(labels, 2), np.tile(scores, 2), np.tile(patients, 2))
    np.testing.assert_allclose(twice.covariance, once.covariance, rtol=0, atol=TOLERANCE)


def test_the_test_rejects_equal_models_as_often_as_it_says():
    generator, rejected = np.random.default_rng(3), 0
    for _ in range(400):
        labels = np.repeat([0, 1], 40)
        scores = generator.normal(size=(2, 80)) + labels + generator.normal(size=80)
        rejected += compare(labels, *scores).p_value < 0.05
    # Binomial(400, 0.05): outside of 7 to 34 once in 1000.
    assert 7 <= rejected <= 34


def test_a_better_model_is_found_better():
    labels, _, patients = models(2, num_lesions=300)
    generator = np.random.default_rng(0)
    good, poor = labels + generator.normal(size=300) * 0.5, labels + generator.normal(size=300) * 3
    found = compare(labels, good, poor, patients)
    assert found.p_value < 1e-4
    assert 0 < found.interval.low < found.difference < found.interval.high
    assert compare(labels, poor, good, patients).difference == pytest.approx(-found.difference)


def test_equal_rankings_have_no_p_value():
    labels, scores, _ = models(4)
    found = compare(labels, scores[0], np.exp(scores[0]))
    assert (found.difference, found.p_value) == (0, None)


def test_perfect_separation_has_no_width():
    found = aurocs([0, 0, 1, 1], [[0.1, 0.2, 0.8, 0.9]])
    assert (found.interval().low, found.interval().high) == (1, 1)


@pytest.mark.parametrize(
    ("labels", "patients", "message"),
    [
        ([0, 0, 1], [0, 1, 2], "two patients with a malignant lesion, got 1"),
        ([0, 0, 1, 1], [0, 0, 1, 2], "two patients with a benign lesion, got 1"),
        ([0, 0, 1, 1], [0, 1], r"patients of shape \(2,\)"),
    ],
)
def test_refuses_what_has_no_variance(labels, patients, message):
    with pytest.raises(ValueError, match=message):
        aurocs(labels, [np.arange(len(labels))], patients)
