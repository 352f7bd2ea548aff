"""The experiment's configuration: frozen, every bound in its annotation; the values come from ``configs/``.

``shared_model.config.compose`` serves the command line; ``ExperimentConfig.from_json`` serves a site that receives the
configuration in a message. Both end in ``build``, so that an unknown key, a wrong type or a value out of bounds is a
``ConfigError`` that names key, value and what was expected.
"""

import dataclasses
import json
from collections.abc import Iterator
from functools import cache, cached_property
from typing import Annotated, get_type_hints

from annotated_types import Ge, Interval

from shared_model.config.choices import ConstantsFrom, Modality, PrivacyMode, StrategyName, ThresholdFrom, Views
from shared_model.config.one_shot import require_one_shot
from shared_model.config.secure_sum import require_secure_sum
from shared_model.config.server_sections import EvaluationConfig, FederationConfig, StrategyConfig
from shared_model.config.site_sections import DataConfig, ModelConfig, PrivacyConfig, TrainingConfig
from shared_model.errors import ConfigError
from shared_model.system.checked import build, checked, require
from shared_model.system.documents import from_json
from shared_model.system.sentences import quoted


@checked(key="run")
class RunConfig:
    """Where a run leaves its results."""

    dir: str


@checked(key="phantom")
class PhantomConfig:
    """The synthetic data set that a simulation writes when it has no real one."""

    num_patients: Annotated[int, Ge(12)] | None
    """Null uses the data at ``data.root``."""


@checked(key="")
class ExperimentConfig:
    """Everything that defines an experiment."""

    preset: str
    seed: Annotated[int, Interval(ge=0, lt=2**63)]
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
        require(
            self.data.views is Views.OWN or not reads_pixels,
            f"== own with model.backbone={self.model.backbone}: the pixels of two views have no mean",
            **{"data.views": self.data.views},
        )
        held_out = {f"data.{name}": getattr(self.data, name) for name in ("public_fraction", "validation_fraction")}
        require(
            self.has_training_histogram or sum(held_out.values()) > 0 or self.evaluation.public is not None,
            "to add up to more than 0 with evaluation.threshold_from=held_out: the operating threshold needs patients "
            "to be chosen on",
            **held_out,
        )

        if self.is_one_shot:
            require_one_shot(self.model, self.training, self.strategy)
        if self.federation.secure_sum:
            require_secure_sum(self.privacy, self.training, self.strategy, self.evaluation)

    @property
    def is_one_shot(self) -> bool:
        """Whether the one round of training is a sum of moments, to which the server fits the head."""
        return self.strategy.name is StrategyName.ONE_SHOT

    @property
    def num_noise_shares(self) -> int:
        """How many sites share the noise of a release: with secure sums the fewest of which there is a sum, else 1."""
        return self.federation.min_sites if self.federation.secure_sum else 1

    @property
    def has_private_mean(self) -> bool:
        """Whether the run begins with a mean of features that costs privacy."""
        return self.model.feature_constants is ConstantsFrom.PRIVATE_MEAN and self.model.reads_frozen_features

    @property
    def has_training_histogram(self) -> bool:
        """Whether the run ends with a histogram of the training patients' scores."""
        return self.evaluation.threshold_from is ThresholdFrom.TRAINING

    @property
    def histogram_bins(self) -> int:
        """Bins of that histogram: few where every bin has noise of its own."""
        has_noise = self.privacy.mode is PrivacyMode.PATIENT
        return self.evaluation.training_bins if has_noise else self.evaluation.num_bins

    def to_json(self) -> str:
        """Return the configuration as JSON with sorted keys; it is made once for an object."""
        return self._json

    @cached_property
    def _json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ExperimentConfig":
        """Build the configuration from what ``to_json`` wrote.

        Raises:
            ConfigError: ``text`` is not JSON, or a key, type or value is wrong; or a text in it would be replaced by
                something from elsewhere if anybody composed it again (``${...}``).
        """
        try:
            values = from_json(text)
            _require_no_interpolation(values)
            return build(cls, values)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"Expected the configuration as JSON: {error}.") from error
        except ConfigError as error:
            raise ConfigError(f"In the configuration: {error}") from error


def _require_no_interpolation(value: object) -> None:
    if isinstance(value, dict):
        for entry in value.values():
            _require_no_interpolation(entry)
    elif isinstance(value, list):
        for entry in value:
            _require_no_interpolation(entry)
    elif isinstance(value, str) and "${" in value:
        raise ConfigError(f"Expected values without ${{...}}, got {quoted(value)}.")


@cache
def config_keys() -> tuple[str, ...]:
    """Return every key of the configuration that holds a value, with dots, in the order of the fields."""
    return tuple(_leaves(ExperimentConfig, ""))


def _leaves(kind: type, prefix: str) -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _leaves(hint, f"{prefix}{name}.")
        else:
            yield prefix + name
