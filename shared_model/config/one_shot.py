"""What ``strategy=one_shot`` asks of the rest of the configuration; anything else is refused where it is composed."""

from shared_model.config.choices import Aggregation, InitialHead, Loss
from shared_model.config.server_sections import StrategyConfig
from shared_model.config.site_sections import ModelConfig, TrainingConfig
from shared_model.system.checked import require

MAX_COMPONENTS = 64
"""Of images: moments grow with their square, and so does the noise that a fit has to bear."""


def require_one_shot(model: ModelConfig, training: TrainingConfig, strategy: StrategyConfig) -> None:
    """Check that there is one linear head of few inputs, and that nothing is set that one fit cannot follow.

    Raises:
        ConfigError: naming the keys, and what to set.
    """
    layers = {"model.fusion": model.fusion, "model.hidden_width": model.hidden_width, "model.backbone": model.backbone}
    require(
        model.has_linear_head,
        "to make a linear head on frozen features with strategy=one_shot: set model.fusion=early model.hidden_width=0 "
        "and a frozen backbone",
        **layers,
    )
    require(
        not model.reads_frozen_features or 1 <= model.image_components <= MAX_COMPONENTS,
        f"to be from 1 to {MAX_COMPONENTS} with strategy=one_shot, since noise hides the moments of more: set "
        "model.image_components=16, and where the components come from, such as model.feature_constants=public "
        "data.public_fraction=0.12",
        **{"model.image_components": model.image_components},
    )
    for name, value, only in (
        ("model.initial_head", model.initial_head, InitialHead.ZERO),
        ("training.num_rounds", training.num_rounds, 1),
        ("training.local_steps", training.local_steps, 1),
        ("training.sampling_rate", training.sampling_rate, 1.0),
        ("training.loss", training.loss, Loss.CROSS_ENTROPY),
        ("training.positive_weight", training.positive_weight, 1.0),
        ("training.weight_decay", training.weight_decay, 0.0),
        ("strategy.server_learning_rate", strategy.server_learning_rate, 1.0),
    ):
        require(value == only, f"== {only} with strategy=one_shot, which trains by one fit", **{name: value})
    require(
        strategy.aggregation in {Aggregation.GUARDED, Aggregation.MEAN},
        "== guarded or mean with strategy=one_shot: moments are added up, so that no other rule applies",
        **{"strategy.aggregation": strategy.aggregation},
    )
