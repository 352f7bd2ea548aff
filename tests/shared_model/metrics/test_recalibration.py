"""Recalibration: what can be checked by hand, and how often its interval holds what it should."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from shared_model.metrics.recalibration import MIN_PER_CLASS, fit_recalibration


def hospital(rng, size, *, slope=1.0, offset=0.0):
    """Labels of a hospital whose lesions are malignant by another line than the scores say."""
    logits = rng.normal(0, 1.5, size)
    return (rng.random(size) < expit(slope * logits + offset)).astype(int), expit(logits)


def test_one_score_becomes_the_share_of_malignant():
    labels = [1] * 30 + [0] * 10
    found = fit_recalibration(labels, [0.4] * 40, has_slope=False)
    # Platt's targets: 30 times 31 / 32, 10 times 1 / 12.
    share = (30 * 31 / 32 + 10 / 12) / 40
    assert found.probability(0.4) == pytest.approx(share)
    assert (found.slope, found.is_slope_fitted, found.num_positives, found.num_negatives) == (1, False, 30, 10)
    half = 1.959964 / np.sqrt(40 * share * (1 - share))
    assert found.interval(0.4).low == pytest.approx(expit(logit(share) - half), abs=1e-6)
    assert found.interval(0.4).high == pytest.approx(expit(logit(share) + half), abs=1e-6)


@pytest.mark.parametrize(("score", "apart"), [(0, 0), (0.3, 0), (0.3, 1e-15), (0.3, 1e-9), (0.7, 1e-9), (1, 0)])
def test_scores_that_are_all_but_equal_have_no_slope(score, apart):
    labels = [1] * 40 + [0] * 80
    scores = score + apart * np.arange(120)
    found = fit_recalibration(labels, scores, has_slope=True)
    assert not found.is_slope_fitted
    # Platt's targets: 40 times 41 / 42, 80 times 1 / 82.
    assert found.probability(score) == pytest.approx((40 * 41 / 42 + 80 / 82) / 120, abs=1e-5)


@pytest.mark.parametrize("num_positives", [0, MIN_PER_CLASS - 1])
def test_too_few_of_a_class(num_positives):
    labels = [1] * num_positives + [0] * 200
    assert fit_recalibration(labels, np.linspace(0.1, 0.9, len(labels)), has_slope=True) is None


def test_the_line_is_the_likeliest_and_its_covariance_that_of_the_curvature():
    rng = np.random.default_rng(0)
    labels, scores = hospital(rng, 400, slope=0.5, offset=-1)
    found = fit_recalibration(labels, scores, has_slope=True)
    num_positives = labels.sum()
    targets = np.where(labels == 1, (num_positives + 1) / (num_positives + 2), 1 / (402 - num_positives))

    def loss(line):
        scaled = line[0] * logit(scores) + line[1]
        return np.sum(np.logaddexp(0, scaled) - targets * scaled)

    best = minimize(loss, (1.0, 0.0), method="BFGS", options={"gtol": 1e-9})
    assert (found.slope, found.offset) == pytest.approx(tuple(best.x), abs=1e-3)
    step, curvature = 1e-3, np.zeros((2, 2))
    for row in range(2):
        for column in range(2):
            ends = [
                (a * b, best.x + step * a * np.eye(2)[row] + step * b * np.eye(2)[column])
                for a in (-1, 1)
                for b in (-1, 1)
            ]
            curvature[row, column] = sum(sign * loss(end) for sign, end in ends) / (4 * step**2)
    expected = np.linalg.inv(curvature)
    assert [found.variance_slope, found.variance_offset, found.covariance] == pytest.approx(
        [expected[0, 0], expected[1, 1], expected[0, 1]], rel=1e-2
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_slope_that_could_be_nothing_is_not_taken(seed):
    labels = np.arange(120) % 2
    found = fit_recalibration(labels, np.random.default_rng(seed).uniform(0.1, 0.9, 120), has_slope=True)
    assert found.slope == 1 or found.slope > 1.96 * np.sqrt(found.variance_slope)


def test_no_score_breaks_it_and_the_order_of_scores_stays():
    rng = np.random.default_rng(4)
    labels, scores = hospital(rng, 300, slope=2, offset=1)
    for has_slope in (False, True):
        found = fit_recalibration(labels, scores, has_slope=has_slope)
        moved = [found.probability(score) for score in np.linspace(0, 1, 21)]
        assert moved == sorted(moved)
        assert all(
            0 <= found.interval(score).low <= found.probability(score) <= found.interval(score).high <= 1
            for score in (0.0, 1e-300, 0.5, 1.0)
        )
    apart = fit_recalibration([0] * 60 + [1] * 60, [0.0] * 60 + [1.0] * 60, has_slope=True)
    assert np.isfinite([apart.slope, apart.offset, apart.variance_offset]).all()


@pytest.mark.parametrize(("size", "has_slope", "slope"), [(50, False, 1.0), (200, True, 0.6)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(size, has_slope, slope):
    rng = np.random.default_rng(5)
    held = []
    for _ in range(300):
        labels, scores = hospital(rng, size, slope=slope, offset=-0.7)
        found = fit_recalibration(labels, scores, has_slope=has_slope)
        for score in (0.2, 0.7):
            truth = expit(slope * logit(score) - 0.7)
            held.append(found.interval(score).low <= truth <= found.interval(score).high)
    assert 0.92 <= np.mean(held) <= 0.98
