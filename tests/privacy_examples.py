"""A mechanism, a privacy configuration and a training that several tests price."""

import dataclasses

from shared_model.config.choices import Loss, NoiseSource, PrivacyMode
from shared_model.config.composition import compose
from shared_model.config.site_sections import PrivacyConfig, TrainingConfig
from shared_model.privacy.mechanism import Mechanism

PRIVACY = PrivacyConfig(
    mode=PrivacyMode.PATIENT,
    target_epsilon=8.0,
    delta=1e-4,
    max_grad_norm=0.5,
    noise=NoiseSource.SECURE,
    mean_share=0.1,
    histogram_share=0.05,
    cohort_rounding=10,
)
TRAINING = TrainingConfig(
    num_rounds=20,
    local_steps=1,
    sampling_rate=1.0,
    learning_rate=1.0,
    momentum=0.0,
    weight_decay=0.0,
    loss=Loss.CROSS_ENTROPY,
    focal_gamma=0.0,
    positive_weight=1.0,
)


def experiment_of(*, privacy=PRIVACY, training=TRAINING, overrides=("preset=smoke",)):
    """Return an experiment that releases nothing but its training, unless ``overrides`` say so."""
    config = compose([*overrides, "data.root=.", "run.dir=unused"])
    return dataclasses.replace(config, privacy=privacy, training=training)


def make_mechanism(noise_multiplier, sampling_rate=1.0, num_steps=1):
    """Return ``num_steps`` steps of Gaussian noise."""
    return Mechanism(noise_multiplier=noise_multiplier, sampling_rate=sampling_rate, num_steps=num_steps)
