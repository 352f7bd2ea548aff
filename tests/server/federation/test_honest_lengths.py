"""The longest honest update: no draw of a real training passes it, and the worst ones are not much shorter."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from client.training.dp_sgd import LocalTraining, train_round
from client.training.gradient_methods import GradientMethod
from client.training.noise import NoiseGenerator
from server.federation.honest_lengths import FAILURE_PROBABILITY, HonestLengths, plan_for
from shared_model.config.composition import compose
from shared_model.data.lesions import Lesions
from shared_model.errors import PrivacyError

WIDTH = 30
BASE = ["preset=smoke", "training.num_rounds=2", "training.learning_rate=3", "privacy.target_epsilon=20"]
TRAININGS = {
    "one step of all": [],
    "hardly any noise": ["privacy.target_epsilon=100"],
    "much noise": ["privacy.target_epsilon=0.5"],
    "momentum over five steps": ["training.local_steps=5", "training.momentum=0.9"],
    "weight decay": ["training.local_steps=3", "training.weight_decay=0.02"],
    "a proximal pull": ["training.local_steps=3", "strategy=fedprox", "strategy.proximal_mu=0.02"],
    "sampled patients": ["training.sampling_rate=0.3", "training.local_steps=3"],
}
DECLARED = 10


class Aligned(nn.Module):
    """All gradients point the same way and are longer than the clip: the longest update that clipping allows."""

    def __init__(self, start):
        super().__init__()
        self.weights = nn.Parameter(torch.full((WIDTH,), start))

    def forward(self, images, has_image, clinical):
        # Far from 0, so that the loss has a gradient of full length wherever the weights go.
        return (self.weights.sum() * 0.5 + 1e4).expand(len(images))


def lesions(num_patients):
    return Lesions(
        images=torch.zeros(num_patients, 1),
        has_image=torch.zeros(num_patients, dtype=torch.bool),
        clinical=torch.zeros(num_patients, 1),
        labels=torch.zeros(num_patients),
        patients=torch.arange(num_patients),
    )


def drawn_lengths(config, *, start, num_draws):
    """Lengths of the updates of a site with almost twice as many patients as it declares, all of one mind."""
    plan = plan_for(config, DECLARED)
    mu = config.strategy.proximal_mu
    training = LocalTraining(config=config.training, plan=plan, proximal_mu=mu, gradient_method=GradientMethod.PATIENT)
    cohort = lesions(2 * DECLARED - 1)
    found = []
    for seed in range(num_draws):
        model = Aligned(start)
        train_round(model, cohort, training=training, noise=NoiseGenerator.from_seed(seed))
        found.append(float((model.weights.detach().double() - start).norm()))
    return np.array(found)


def lengths_of(config, start=0.0):
    return HonestLengths.of_round(config, {"weights": np.full(WIDTH, start, np.float32)})


@pytest.mark.parametrize("name", TRAININGS)
def test_the_longest_honest_updates_are_shorter_and_not_by_much(name):
    config, start = compose([*BASE, *TRAININGS[name]]), -0.3
    found = drawn_lengths(config, start=start, num_draws=60)
    longest = lengths_of(config, start).longest(DECLARED)
    assert found.max() < longest
    assert longest < 3.5 * found.max()


def test_noise_alone_passes_the_bound_as_seldom_as_promised():
    """Against the exact tail of the chi distribution, with the clipped sums left out."""
    config = compose([*BASE, "privacy.target_epsilon=0.05"])
    lengths, plan = lengths_of(config), plan_for(config, DECLARED)
    deviation = config.training.learning_rate * plan.noise_multiplier * plan.max_grad_norm / DECLARED
    clipped = 2 * config.training.learning_rate * plan.max_grad_norm
    quantile = stats.chi(WIDTH).isf(FAILURE_PROBABILITY) * deviation
    assert quantile < lengths.longest(DECLARED) - clipped < 1.5 * quantile


def test_by_hand():
    """One step of all at learning rate 3, clip 0.25, size 10: 3 * 0.25 * 2 from the gradients, the rest from noise."""
    config = compose(BASE)
    noise_multiplier = plan_for(config, DECLARED).noise_multiplier
    doubt = math.log(2 / FAILURE_PROBABILITY)
    noise = 3 * 0.25 * noise_multiplier / 10 * (math.sqrt(WIDTH) + math.sqrt(2 * doubt))
    assert lengths_of(config).longest(DECLARED) == pytest.approx((1.5 + noise) * 1.001)
    assert lengths_of(config).noise(DECLARED) == pytest.approx(3 * 0.25 * noise_multiplier / 10 * math.sqrt(WIDTH))


def test_a_larger_site_has_less_room():
    found = [lengths_of(compose(BASE)).longest(size) for size in (10, 100, 1000)]
    assert found == sorted(found, reverse=True)


def test_the_noise_is_about_as_long_as_it_says():
    config = compose([*BASE, "privacy.target_epsilon=0.05", *TRAININGS["momentum over five steps"]])
    found = drawn_lengths(config, start=0.0, num_draws=100)
    assert np.sqrt((found**2).mean()) == pytest.approx(lengths_of(config).noise(DECLARED), rel=0.1)


def test_without_privacy_nothing_is_known():
    lengths = lengths_of(compose([*BASE[:3], "privacy=off"]))
    assert not lengths.is_private
    assert (lengths.longest(DECLARED), lengths.noise(DECLARED)) == (math.inf, 0.0)


def test_a_pull_that_may_overshoot_has_no_bound():
    config = compose([*BASE, "training.weight_decay=0.4"])
    assert lengths_of(config).longest(DECLARED) == math.inf


def test_a_size_that_delta_does_not_allow():
    config = compose(BASE)
    with pytest.raises(PrivacyError, match=r"Expected delta=0\.0001 < 1 / num_patients_declared=20000"):
        lengths_of(config).longest(20_000)


def test_the_length_of_the_parameters_counts_with_weight_decay_alone():
    config = compose([*BASE, "training.weight_decay=0.02"])
    near, far = (dataclasses.replace(lengths_of(config), parameter_norm=norm) for norm in (0.0, 10.0))
    assert far.longest(DECLARED) - near.longest(DECLARED) == pytest.approx(0.06 * 10 / (1 - 0.06) * 1.001)
    assert lengths_of(compose(BASE), 5.0).longest(DECLARED) == lengths_of(compose(BASE)).longest(DECLARED)
