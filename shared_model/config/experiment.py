"""The experiment's configuration: frozen, checked, composed by Hydra from ``configs/`` in this one place.

``compose`` serves the command line; ``ExperimentConfig.from_json`` serves a site that receives the configuration in
a message. Both end in the same strict builder, so that an unknown key, a wrong type or a value out of bounds is a
``ConfigError`` naming key, value and what was expected.
"""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from shared_model.config.choices import (
    Aggregation,
    Backbone,
    Backend,
    DataSource,
    Denoising,
    EvaluationPrivacy,
    Fusion,
    ImageMode,
    Loss,
    Modality,
    NoiseSource,
    Normalisation,
    Partition,
    PrivacyMode,
    StrategyName,
    Views,
)
from shared_model.config.strict_build import build
from shared_model.errors import ConfigError
from shared_model.vocabulary import FeaturePolicy, LesionType

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "configs"
_SITE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _require(*checks: tuple[str, object, bool, str]) -> None:
    for key, value, is_met, expectation in checks:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"Expected {key}={value} to be finite.")
        if not is_met:
            raise ConfigError(f"Expected {key}={value} {expectation}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run leaves its results."""

    dir: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Stored pixels to network input; every field is part of the cache key."""

    mode: ImageMode
    size: int
    """Height and width in pixels of the network's input."""
    context: float
    """Side of the square cut in ``roi`` mode, in multiples of the lesion's longer side."""
    normalisation: Normalisation
    denoising: Denoising
    clahe_clip_limit: float
    """Contrast-limited adaptive histogram equalisation; 0 switches it off."""
    face_left: bool
    """Mirror right breasts, so that the chest wall is always on the same side."""

    def __post_init__(self) -> None:
        _require(
            ("data.image.size", self.size, 32 <= self.size <= 4096, "in [32, 4096]"),
            ("data.image.context", self.context, 1 <= self.context <= 10, "in [1, 10]"),
            (
                "data.image.clahe_clip_limit",
                self.clahe_clip_limit,
                0 <= self.clahe_clip_limit <= 100,
                "in [0, 100]",
            ),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which rows and columns are used, and who holds which role."""

    source: DataSource
    root: str
    """Data folder (CBIS-DDSM) or manifest file; a deployed site replaces it by its own."""
    roster: str | None
    """Table (``patient_id`` and ``site`` or ``institution``), relative to ``root``, saying whose patient is whose;
    null makes every patient the site's own."""
    cache_dir: str
    lesion_types: tuple[LesionType, ...]
    features: FeaturePolicy
    views: Views
    image: ImageConfig
    max_reject_fraction: float
    """A site with a larger share of unusable rows stops."""
    public_fraction: float
    """Share of training patients declared public and withdrawn from every site: they calibrate the feature
    standardisation and choose the operating threshold."""
    validation_fraction: float
    """Share of a site's training patients kept for choosing the operating threshold."""

    def __post_init__(self) -> None:
        kept = self.public_fraction + self.validation_fraction
        lesion_types = [str(lesion_type) for lesion_type in self.lesion_types]
        _require(
            ("data.lesion_types", lesion_types, bool(lesion_types), "not empty"),
            ("data.lesion_types", lesion_types, len(set(lesion_types)) == len(lesion_types), "to be distinct"),
            (
                "data.max_reject_fraction",
                self.max_reject_fraction,
                0 <= self.max_reject_fraction <= 1,
                "in [0, 1]",
            ),
            ("data.public_fraction", self.public_fraction, self.public_fraction >= 0, ">= 0"),
            (
                "data.validation_fraction",
                self.validation_fraction,
                self.validation_fraction >= 0,
                ">= 0",
            ),
            (
                "data.public_fraction + data.validation_fraction",
                kept,
                0 < kept <= 0.5,
                "in (0, 0.5]: the operating threshold needs validation patients",
            ),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The fusion network."""

    modality: Modality
    fusion: Fusion
    backbone: Backbone
    image_components: int
    """Principal components, of the public patients' features, kept before the head; 0 keeps all features."""
    hidden_width: int
    """Width of the head's hidden layer; 0 makes the branches linear."""

    def __post_init__(self) -> None:
        _require(
            (
                "model.image_components",
                self.image_components,
                0 <= self.image_components <= 1024,
                "in [0, 1024]",
            ),
            (
                "model.hidden_width",
                self.hidden_width,
                0 <= self.hidden_width <= 4096,
                "in [0, 4096]",
            ),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What a site does in a round."""

    num_rounds: int
    local_steps: int
    sampling_rate: float
    """Probability that a patient takes part in a step; 1 is the whole cohort."""
    learning_rate: float
    momentum: float
    weight_decay: float
    loss: Loss
    focal_gamma: float
    positive_weight: float
    """Public constant by which a malignant record's loss is multiplied."""

    def __post_init__(self) -> None:
        _require(
            ("training.num_rounds", self.num_rounds, self.num_rounds >= 1, ">= 1"),
            ("training.local_steps", self.local_steps, self.local_steps >= 1, ">= 1"),
            (
                "training.sampling_rate",
                self.sampling_rate,
                0 < self.sampling_rate <= 1,
                "in (0, 1]",
            ),
            ("training.learning_rate", self.learning_rate, self.learning_rate > 0, "> 0"),
            ("training.momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)"),
            ("training.weight_decay", self.weight_decay, self.weight_decay >= 0, ">= 0"),
            ("training.focal_gamma", self.focal_gamma, 0 <= self.focal_gamma <= 5, "in [0, 5]"),
            (
                "training.positive_weight",
                self.positive_weight,
                0.1 <= self.positive_weight <= 10,
                "in [0.1, 10]",
            ),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """The promise to every patient of a site; the fields but ``mode`` are null when it is off."""

    mode: PrivacyMode
    target_epsilon: float | None
    delta: float | None
    max_grad_norm: float | None
    noise: NoiseSource | None
    cohort_rounding: int
    """Cohort sizes are declared as multiples of this, rounded down."""

    def __post_init__(self) -> None:
        _require(("privacy.cohort_rounding", self.cohort_rounding, self.cohort_rounding >= 1, ">= 1"))
        promise = ("target_epsilon", "delta", "max_grad_norm", "noise")
        if self.mode is PrivacyMode.OFF:
            _require(
                *(
                    (
                        f"privacy.{name}",
                        getattr(self, name),
                        getattr(self, name) is None,
                        "to be null with privacy=off",
                    )
                    for name in promise
                )
            )
            return
        for name in promise:
            if getattr(self, name) is None:
                raise ConfigError(f"Expected privacy.{name} to be set with privacy=patient.")
        epsilon, delta, norm = self.target_epsilon or 0, self.delta or 0, self.max_grad_norm or 0
        _require(
            ("privacy.target_epsilon", epsilon, 0.01 <= epsilon <= 1000, "in [0.01, 1000]"),
            ("privacy.delta", delta, 0 < delta < 0.1, "in (0, 0.1)"),
            ("privacy.max_grad_norm", norm, norm > 0, "> 0"),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StrategyConfig:
    """How the server aggregates; see ``server.federation.server_optimizer``."""

    name: StrategyName
    server_learning_rate: float
    momentum: float
    second_momentum: float
    adaptivity: float
    proximal_mu: float
    average_last_fraction: float
    """The final parameters are the mean of the iterates of this last share of the rounds; 0 keeps the last one."""
    max_site_weight: float
    """No site weighs more than this share of a round."""
    aggregation: Aggregation
    num_hostile: int
    """Hostile sites that ``trimmed_mean`` and ``krum`` are to bear."""
    max_update_norm: float | None
    """Longer updates are scaled down to this length; null sets no bound."""

    def __post_init__(self) -> None:
        _require(
            (
                "strategy.server_learning_rate",
                self.server_learning_rate,
                self.server_learning_rate > 0,
                "> 0",
            ),
            ("strategy.momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)"),
            (
                "strategy.second_momentum",
                self.second_momentum,
                0 <= self.second_momentum < 1,
                "in [0, 1)",
            ),
            ("strategy.adaptivity", self.adaptivity, self.adaptivity > 0, "> 0"),
            ("strategy.proximal_mu", self.proximal_mu, self.proximal_mu >= 0, ">= 0"),
            (
                "strategy.average_last_fraction",
                self.average_last_fraction,
                0 <= self.average_last_fraction <= 1,
                "in [0, 1]",
            ),
            (
                "strategy.max_site_weight",
                self.max_site_weight,
                0 < self.max_site_weight <= 1,
                "in (0, 1]",
            ),
            ("strategy.num_hostile", self.num_hostile, self.num_hostile >= 0, ">= 0"),
            (
                "strategy.max_update_norm",
                self.max_update_norm,
                self.max_update_norm is None or 0 < self.max_update_norm < math.inf,
                "> 0 and finite, or null",
            ),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FederationConfig:
    """Who takes part, and how long the server waits."""

    backend: Backend
    sites: tuple[str, ...]
    partition: Partition
    concentration: float
    """Dirichlet concentration of the skewed partitions; smaller is more skewed."""
    min_sites: int
    round_timeout_seconds: float
    num_workers: int
    """Sites that compute at the same time in a simulation."""
    ledger_dir: str
    """Folder of the simulated sites' privacy ledgers; a deployed site names its own and ignores this one."""
    site_policy: str | None
    """Policy file of the simulated sites, null for the one that allows everything; as ``ledger_dir`` otherwise."""
    node_ids: tuple[int, ...] | None
    """Flower's node of each of ``sites``, so that no site can speak for another; null in a simulation."""

    def __post_init__(self) -> None:
        _require(
            (
                "federation.sites",
                list(self.sites),
                len(set(self.sites)) == len(self.sites) and all(map(_SITE_NAME.fullmatch, self.sites)),
                "to be distinct names of letters, digits, '-' and '_'",
            ),
            ("federation.sites", list(self.sites), len(self.sites) >= 1, "not empty"),
            ("federation.concentration", self.concentration, self.concentration > 0, "> 0"),
            (
                "federation.min_sites",
                self.min_sites,
                1 <= self.min_sites <= len(self.sites),
                f"in [1, number of sites = {len(self.sites)}]",
            ),
            (
                "federation.round_timeout_seconds",
                self.round_timeout_seconds,
                self.round_timeout_seconds > 0,
                "> 0",
            ),
            ("federation.num_workers", self.num_workers, self.num_workers >= 1, ">= 1"),
            (
                "federation.node_ids",
                self.node_ids,
                self.node_ids is None or len(self.node_ids) == len(set(self.node_ids)) == len(self.sites),
                "null, or a different node for each of federation.sites",
            ),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How global figures are computed."""

    privacy: EvaluationPrivacy
    num_bins: int
    """Bins of the score histograms that sites send with ``privacy=exact``."""
    target_epsilon: float
    """With ``privacy=dp``: what one release of histograms may cost an evaluation patient."""
    delta: float
    """With ``privacy=dp``."""
    dp_num_bins: int
    """Bins with ``privacy=dp``: each bin has noise of its own, so fewer are better than many."""
    target_sensitivity: float
    """The threshold is the highest that reaches this sensitivity on validation patients."""
    prevalence: float
    """Share of malignant cases, where the network would be used, for which predictive values are also stated."""
    bootstrap_resamples: int
    holdout: str | None
    """File with the server's own test lesions; null evaluates at the sites only. A CSV of the same name beside it may
    describe them: see ``server.evaluation.predictions``."""
    public: str | None
    """File with the public patients' lesions, if any."""

    def __post_init__(self) -> None:
        _require(
            (
                "evaluation.num_bins",
                self.num_bins,
                10 <= self.num_bins <= 100_000,
                "in [10, 100000]",
            ),
            (
                "evaluation.target_epsilon",
                self.target_epsilon,
                0.01 <= self.target_epsilon <= 1000,
                "in [0.01, 1000]",
            ),
            ("evaluation.delta", self.delta, 0 < self.delta < 0.1, "in (0, 0.1)"),
            ("evaluation.dp_num_bins", self.dp_num_bins, 2 <= self.dp_num_bins <= 1000, "in [2, 1000]"),
            (
                "evaluation.target_sensitivity",
                self.target_sensitivity,
                0 < self.target_sensitivity <= 1,
                "in (0, 1]",
            ),
            ("evaluation.prevalence", self.prevalence, 0 < self.prevalence < 1, "in (0, 1)"),
            (
                "evaluation.bootstrap_resamples",
                self.bootstrap_resamples,
                self.bootstrap_resamples >= 100,
                ">= 100",
            ),
        )

    @property
    def bins(self) -> int:
        """Bins of the histograms that sites send."""
        return self.dp_num_bins if self.privacy is EvaluationPrivacy.DP else self.num_bins


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """The synthetic data set that a simulation writes when it has no real one."""

    num_patients: int | None
    """Null uses the data at ``data.root``."""

    def __post_init__(self) -> None:
        _require(
            (
                "phantom.num_patients",
                self.num_patients,
                self.num_patients is None or self.num_patients >= 12,
                "null or >= 12",
            )
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Everything that defines an experiment."""

    preset: str
    seed: int
    run: RunConfig
    data: DataConfig
    phantom: PhantomConfig
    model: ModelConfig
    training: TrainingConfig
    privacy: PrivacyConfig
    strategy: StrategyConfig
    federation: FederationConfig
    evaluation: EvaluationConfig

    def __post_init__(self) -> None:
        reads_pixels = self.model.modality is not Modality.CLINICAL and not self.model.backbone.is_frozen
        _require(
            ("seed", self.seed, 0 <= self.seed < 2**63, "in [0, 2^63)"),
            (
                "data.views",
                self.data.views,
                self.data.views is Views.OWN or not reads_pixels,
                f"== own with model.backbone={self.model.backbone}: the pixels of two views have no mean",
            ),
        )

    def to_json(self) -> str:
        """Return the configuration as JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ExperimentConfig":
        """Build the configuration from what ``to_json`` wrote.

        Raises:
            ConfigError: ``text`` is not JSON, or a key, type or value is wrong.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"Expected the configuration as JSON: {error}.") from error
        return build(cls, values, path="")


_REFUSED = {
    "training.oversampling": "Expected no oversampling: a patient drawn more often than the accountant assumes has "
    "less privacy than reported; use training.positive_weight or training.loss=focal against class imbalance."
}


def compose(overrides: Sequence[str]) -> ExperimentConfig:
    """Compose ``configs/experiment.yaml`` with Hydra overrides such as ``preset=smoke`` or ``seed=1``.

    Raises:
        ConfigError: Hydra does not know an override, or a key, type or value is wrong.
    """
    for override in overrides:
        if override.lstrip("+").split("=")[0] in _REFUSED:
            raise ConfigError(_REFUSED[override.lstrip("+").split("=")[0]])
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            composed = hydra_compose("experiment", overrides=list(overrides))
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"Expected a value for {error.full_key}, for example {error.full_key}=...") from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        summary = " ".join(str(error).split())
        raise ConfigError(f"Cannot compose the configuration: {summary}") from error
    return build(ExperimentConfig, values, path="")
