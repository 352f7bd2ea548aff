import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from client.training.gradient_methods import GradientMethod
from simulations.attacks import membership as membership_attack
from simulations.attacks.membership import (
    TARGETS,
    Fault,
    Target,
    audit,
    audits,
    least_epsilons,
    share_at_least,
    share_at_most,
)

DELTAS = (1e-4, 0.01, 0.1, 0.3)


def delta_of_gaussian(separation, epsilon):
    """Balle & Wang 2018, Theorem 8, with ``separation`` = sensitivity / standard deviation."""
    half, ratio = separation / 2, epsilon / separation
    return norm.cdf(half - ratio) - math.exp(epsilon) * norm.cdf(-half - ratio)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_limits_of_a_share_are_those_of_clopper_and_pearson(level):
    counts = np.arange(21.0)
    for found, side in ((share_at_least(counts, 20, level=level), 0), (share_at_most(counts, 20, level=level), 1)):
        expected = [
            binomtest(int(count), 20, alternative=("greater", "less")[side]).proportion_ci(level, method="exact")[side]
            for count in counts
        ]
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("separation", [0.5, 2.0, 4.0])
def test_bounds_stay_below_the_truth_as_often_as_they_say_and_come_close(separation, sign):
    # Reference: two unit normals, whose (epsilon, delta) is known in closed form.
    rng = np.random.default_rng(int(10 * separation) + sign)
    num_repeats, num_broken, best = 100, 0, []
    for _ in range(num_repeats):
        without, with_canary = rng.normal(size=2000), rng.normal(loc=separation, size=2000)
        if sign < 0:
            without, with_canary = -with_canary, -without
        found = least_epsilons(without, with_canary, DELTAS, confidence=0.9)
        num_broken += any(
            delta_of_gaussian(separation, epsilon) < delta
            for delta, epsilon in zip(DELTAS, found, strict=True)
            if epsilon
        )
        best.append(max(found))
    # A tenth may break; as many as 20 of 100 would with probability 0.002 if just a tenth did.
    assert num_broken < 20
    assert np.median(best) > 0.4 * separation


def test_worlds_that_are_alike_prove_nothing():
    scores = np.random.default_rng(0).normal(size=1000)
    assert max(least_epsilons(scores, scores, DELTAS, confidence=0.95)) < 0.3
    assert least_epsilons(np.zeros(10), np.zeros(10), DELTAS, confidence=0.95) == [0.0] * 4


def test_worlds_that_never_meet_prove_what_their_number_allows():
    found = least_epsilons(np.zeros(2000), np.ones(2000), (0.1,), confidence=0.95)
    share = 0.025 ** (1 / 1000)
    assert found == [pytest.approx(math.log((share - 0.1) / (1 - share)))]


def test_an_audit_needs_trials():
    with pytest.raises(ValueError, match="Expected num_trials=3 >= 4"):
        audit(Target(), target_epsilon=8.0, num_trials=3, seed=0)


def test_an_audit_can_be_repeated_and_reports_progress():
    done = []
    found = audit(Target(), target_epsilon=8.0, num_trials=4, seed=1, progress=lambda *step: done.append(step))
    assert found == audit(Target(), target_epsilon=8.0, num_trials=4, seed=1)
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_every_way_and_every_fault_is_attacked():
    assert {target.gradient_method for target in TARGETS} == set(GradientMethod)
    assert {target.fault for target in TARGETS} == set(Fault)
    assert any(target.sampling_rate < 1 for target in TARGETS)


def test_audits_count_the_trials_of_all(monkeypatch):
    monkeypatch.setattr(membership_attack, "TARGETS", (Target(), Target(fault=Fault.HALF_NOISE)))
    done = []
    found = list(audits(target_epsilon=8.0, num_trials=4, seed=0, progress=lambda *step: done.append(step)))
    assert [entry.fault for entry in found] == [Fault.NONE, Fault.HALF_NOISE]
    assert done == [(step, 8) for step in range(1, 9)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", TARGETS, ids=lambda target: f"{target.fault}, {target.gradient_method}, {target.sampling_rate}"
)
def test_the_claim_stands_and_falls_with_every_planted_fault(target):
    found = audit(target, target_epsilon=8.0, num_trials=700, seed=7)
    for bound in found.bounds:
        print(f"delta {bound.delta:g}: {bound.least_epsilon:.2f} of {bound.claimed_epsilon:.2f}")  # noqa: T201
    assert found.is_as_it_should_be
    # The attack is no straw man. Against sampled patients it needs more trials than a test has.
    assert max(bound.least_epsilon for bound in found.bounds) > (1.4 if target.sampling_rate == 1 else 0.1)
