"""The training that audits of the private mechanism attack, as far as they have it in common."""

from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig

_OVERRIDES = (
    "preset=cbis_mass",
    "privacy=patient",
    "data.root=.",
    "model.fusion=early",
    # The whole budget is that of training.
    "model.feature_constants=public",
    "evaluation.threshold_from=held_out",
    "data.validation_fraction=0.2",
    "training.local_steps=1",
    "training.positive_weight=10",
    "training.momentum=0",
    "training.weight_decay=0",
)


def audited_training(*overrides: str) -> ExperimentConfig:
    """Return the private training of an early-fusion head, one plain step a round, with ``overrides``."""
    return compose([*_OVERRIDES, *overrides])
