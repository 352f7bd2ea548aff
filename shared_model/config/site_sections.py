"""The sections of the configuration that say what a site does: data, model, training, privacy."""

from typing import Annotated

from annotated_types import Interval

from shared_model.config.bounds import (
    Count,
    Delta,
    Epsilon,
    Fraction,
    Momentum,
    NotNegative,
    Positive,
    PositiveFraction,
    Share,
)
from shared_model.config.choices import (
    Backbone,
    ConstantsFrom,
    DataSource,
    Denoising,
    FeatureEngine,
    Fusion,
    ImageMode,
    InitialHead,
    Loss,
    Modality,
    NoiseSource,
    Normalisation,
    PrivacyMode,
    Views,
)
from shared_model.system.checked import DISTINCT, NOT_EMPTY, checked, require
from shared_model.vocabulary import FeaturePolicy, LesionType


@checked(key="data.image")
class ImageConfig:
    """Stored pixels to network input; every field is part of the cache key."""

    mode: ImageMode
    size: Annotated[int, Interval(ge=32, le=4096)]
    """Height and width in pixels of the network's input."""
    context: Annotated[float, Interval(ge=1, le=10)]
    """Side of the square cut in ``roi`` mode, in multiples of the lesion's longer side."""
    normalisation: Normalisation
    denoising: Denoising
    clahe_clip_limit: Annotated[float, Interval(ge=0, le=100)]
    """Contrast-limited adaptive histogram equalisation; 0 switches it off."""
    face_left: bool
    """Mirror right breasts, so that the chest wall is always on the same side."""


@checked(key="data")
class DataConfig:
    """Which rows and columns are used, and who holds which role."""

    source: DataSource
    root: str
    """Data folder (CBIS-DDSM) or manifest file; a deployed site replaces it by its own."""
    roster: str | None
    """Table (``patient_id`` and ``site`` or ``institution``), relative to ``root``, saying whose patient is whose;
    null makes every patient the site's own."""
    cache_dir: str
    lesion_types: Annotated[tuple[LesionType, ...], NOT_EMPTY, DISTINCT]
    features: FeaturePolicy
    views: Views
    image: ImageConfig
    max_reject_fraction: Fraction
    """A site with a larger share of unusable rows stops."""
    public_fraction: NotNegative
    """Share of training patients declared public and withdrawn from every site; see ``model.feature_constants`` and
    ``evaluation.threshold_from``."""
    validation_fraction: NotNegative
    """Share of a site's training patients kept for choosing the operating threshold."""

    def __post_init__(self) -> None:
        require(
            self.public_fraction + self.validation_fraction <= 0.5,
            "to add up to at most 0.5: the others are trained on",
            public_fraction=self.public_fraction,
            validation_fraction=self.validation_fraction,
        )


@checked(key="model")
class ModelConfig:
    """The fusion network."""

    modality: Modality
    fusion: Fusion
    backbone: Backbone
    feature_engine: FeatureEngine
    """Counts with a frozen backbone; the same at every site."""
    feature_constants: ConstantsFrom
    """Counts with a frozen backbone."""
    constants_file: str | None
    """File of ``feature_constants=shipped``; null takes the one that comes with the package. The server alone reads it:
    sites receive its numbers."""
    initial_head: InitialHead
    image_components: Annotated[int, Interval(ge=0, le=1024)]
    """Principal components, of the public patients' features, kept before the head; 0 keeps all features."""
    hidden_width: Annotated[int, Interval(ge=0, le=4096)]
    """Width of the head's hidden layer; 0 makes the branches linear."""

    def __post_init__(self) -> None:
        constants = f"model.feature_constants={self.feature_constants}"
        require(
            self.feature_constants is not ConstantsFrom.PRIVATE_MEAN or self.image_components == 0,
            f"== 0 with {constants}: principal components need public patients",
            image_components=self.image_components,
        )
        is_shipped = self.feature_constants is ConstantsFrom.SHIPPED
        require(
            not is_shipped or self.image_components > 0,
            f"> 0 with {constants}: as many as the file has",
            image_components=self.image_components,
        )
        require(
            not is_shipped or self.reads_frozen_features,
            f"== public with model.modality={self.modality} and model.backbone={self.backbone}: no frozen features are "
            "read",
            feature_constants=self.feature_constants,
        )
        expectation = f"to be null with {constants}: only shipped reads a file"
        require(is_shipped or self.constants_file is None, expectation, constants_file=self.constants_file)
        is_linear = self.hidden_width == 0 and (self.modality is Modality.IMAGE or self.fusion is Fusion.EARLY)
        require(
            self.initial_head is InitialHead.ZERO or (is_shipped and is_linear),
            "== zero without model.feature_constants=shipped, model.hidden_width=0 and, for clinical columns too, "
            "model.fusion=early: the file's head is of these",
            initial_head=self.initial_head,
        )

    @property
    def has_linear_head(self) -> bool:
        """Whether all that is trained is one linear layer on features and clinical entries."""
        is_joined_early = self.modality is not Modality.FUSION or self.fusion is Fusion.EARLY
        is_frozen = self.modality is Modality.CLINICAL or self.backbone.is_frozen
        return is_joined_early and is_frozen and self.hidden_width == 0

    @property
    def reads_frozen_features(self) -> bool:
        """Whether a frozen backbone turns images into features, which constants standardise."""
        return self.modality is not Modality.CLINICAL and self.backbone.is_frozen

    @property
    def engine_packages(self) -> tuple[str, ...]:
        """The packages beside torch on which the features depend."""
        is_torch = self.feature_engine is FeatureEngine.TORCH
        return () if is_torch or not self.reads_frozen_features else (str(self.feature_engine),)


@checked(key="training")
class TrainingConfig:
    """What a site does in a round."""

    num_rounds: Count
    local_steps: Count
    sampling_rate: PositiveFraction
    """Probability that a patient takes part in a step; 1 is the whole cohort."""
    learning_rate: Positive
    momentum: Momentum
    weight_decay: NotNegative
    loss: Loss
    focal_gamma: Annotated[float, Interval(ge=0, le=5)]
    positive_weight: Annotated[float, Interval(ge=0.1, le=10)]
    """Public constant by which a malignant record's loss is multiplied."""


@checked(key="privacy")
class PrivacyConfig:
    """The promise to every patient of a site; the fields but ``mode`` are null when it is off."""

    mode: PrivacyMode
    target_epsilon: Epsilon | None
    delta: Delta | None
    max_grad_norm: Positive | None
    noise: NoiseSource | None
    mean_share: Share | None
    """Of the budget, for the mean of the features; counts with ``model.feature_constants=private_mean``."""
    histogram_share: Share | None
    """Of the budget, for the histogram of scores; counts with ``evaluation.threshold_from=training``."""
    cohort_rounding: Count
    """Cohort sizes are declared as multiples of this, rounded down."""

    def __post_init__(self) -> None:
        for name in ("target_epsilon", "delta", "max_grad_norm", "noise", "mean_share", "histogram_share"):
            value = getattr(self, name)
            if self.mode is PrivacyMode.OFF:
                require(
                    value is None, "to be null with privacy=off; leave it out or take privacy=patient", **{name: value}
                )
            else:
                require(value is not None, "to be set with privacy=patient", **{name: value})
