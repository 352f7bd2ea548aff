"""What a site allows, whatever the server asks: limits in a small file of the site's own.

The server's configuration is checked against it before any data are read. A refusal tells the server one fixed reason;
which limit was passed stands in the site's own log.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from client.privacy.ledger_history import Limits
from shared_model.config.bounds import Count, NotNegative, Positive
from shared_model.config.choices import Backbone, EvaluationPrivacy, NoiseSource, PrivacyMode
from shared_model.config.composition import CONFIG_FOLDER
from shared_model.config.experiment import ExperimentConfig, config_keys
from shared_model.errors import PolicyError
from shared_model.system.checked import checked, require
from shared_model.system.documents import load_yaml
from shared_model.system.sentences import nearest
from shared_model.vocabulary import FeaturePolicy

OPEN_POLICY = CONFIG_FOLDER / "site_policy" / "open.yaml"
"""Allows everything: for simulations only."""


@checked()
class SitePolicy:
    """The site's limits; all keys must be in the file, so that none is forgotten.

    Raises:
        ConfigError: a limit is out of bounds, or ``fields`` names a key that no configuration has.
    """

    max_epsilon: Positive | None
    """What one patient may spend in all, over every run there will ever be; null sets no limit."""
    max_delta: Annotated[float, Interval(gt=0, lt=1)]
    """The delta at which ``max_epsilon`` holds, and the largest a run may ask for."""
    min_noise_multiplier: NotNegative
    """Of one step, in multiples of the clipping norm."""
    max_grad_norm: Positive
    """A looser clip is refused."""
    max_rounds: Count
    min_patients: Count
    """With fewer training patients, or fewer evaluation patients to report on, nothing leaves."""
    min_cohort_rounding: Count
    """Coarseness of the cohort size that the site declares."""
    privacy: tuple[PrivacyMode, ...]
    noise: tuple[NoiseSource, ...]
    evaluation: tuple[EvaluationPrivacy, ...]
    features: tuple[FeaturePolicy, ...]
    backbones: tuple[Backbone, ...]
    source_fingerprints: tuple[str, ...] | None
    """Approved source code; null approves whatever code runs here."""
    fields: Mapping[str, tuple[object, ...]]
    """Further keys of the configuration, such as ``data.image.size``, and the values that each may have."""

    def __post_init__(self) -> None:
        for key in self.fields:
            near = nearest(key, config_keys())
            expectation = "to be a key of the configuration" + (f", such as {near}" if near else "")
            require(key in config_keys(), expectation, fields=key)

    @classmethod
    def load(cls, path: Path) -> "SitePolicy":
        """Read the file.

        Raises:
            ConfigError: it cannot be read, or a key is unknown, missing or out of bounds.
        """
        return load_yaml(cls, path, what="the site policy")

    @property
    def limits(self) -> Limits:
        """What the ledger enforces."""
        return Limits(max_epsilon=self.max_epsilon, max_delta=self.max_delta)

    def require(self, config: ExperimentConfig, source_fingerprint: str) -> None:
        """Check what the server asks for, before any data are read.

        Raises:
            PolicyError: naming the key, the value asked for and what is allowed.
        """
        for key, value, is_allowed, allowed in self._checks(config, source_fingerprint):
            if not is_allowed:
                raise PolicyError(f"Expected {key}={value} to be {allowed}, as this site's policy has it.")

    def require_patients(self, num_patients: int) -> None:
        """Check the size of a cohort about which something is to leave.

        Raises:
            PolicyError: there are too few.
        """
        if num_patients < self.min_patients:
            raise PolicyError(f"Expected at least {self.min_patients} patients for anything to leave the site.")

    def require_noise(self, noise_multiplier: float) -> None:
        """Check the noise of one step.

        Raises:
            PolicyError: there is too little.
        """
        if not noise_multiplier >= self.min_noise_multiplier:
            raise PolicyError(f"Expected noise_multiplier={noise_multiplier:g} >= {self.min_noise_multiplier:g}.")

    def _checks(self, config: ExperimentConfig, source_fingerprint: str) -> Iterator[tuple[str, object, bool, object]]:
        approved, privacy, evaluation = self.source_fingerprints, config.privacy, config.evaluation
        is_approved = approved is None or source_fingerprint in approved
        yield "source code", source_fingerprint[:12], is_approved, "approved"
        for key, choice, choices in (
            ("privacy.mode", privacy.mode, self.privacy),
            ("evaluation.privacy", evaluation.privacy, self.evaluation),
            ("data.features", config.data.features, self.features),
            ("model.backbone", config.model.backbone, self.backbones),
        ):
            yield key, choice, choice in choices, f"one of {', '.join(choices)}"
        rounds = config.training.num_rounds
        yield "training.num_rounds", rounds, rounds <= self.max_rounds, f"<= {self.max_rounds}"
        if privacy.mode is PrivacyMode.PATIENT:
            yield from self._promise_checks(config)
        if evaluation.privacy is EvaluationPrivacy.DP:
            yield "evaluation.delta", evaluation.delta, evaluation.delta <= self.max_delta, f"<= {self.max_delta:g}"
            yield from self._epsilon_check("evaluation.target_epsilon", evaluation.target_epsilon)
        plain = json.loads(config.to_json())
        for key, values in self.fields.items():
            value = _value_at(plain, key)
            yield key, value, value in values, f"one of {list(values)}"

    def _promise_checks(self, config: ExperimentConfig) -> Iterator[tuple[str, object, bool, object]]:
        privacy, rounding = config.privacy, config.privacy.cohort_rounding
        # Null would have been refused by the configuration; infinity makes sure that it is refused here too.
        delta, norm = privacy.delta or math.inf, privacy.max_grad_norm or math.inf
        yield "privacy.noise", privacy.noise, privacy.noise in self.noise, f"one of {', '.join(self.noise)}"
        yield "privacy.delta", delta, delta <= self.max_delta, f"<= {self.max_delta:g}"
        yield "privacy.max_grad_norm", norm, norm <= self.max_grad_norm, f"<= {self.max_grad_norm:g}"
        minimum = self.min_cohort_rounding
        yield "privacy.cohort_rounding", rounding, rounding >= minimum, f">= {minimum}"
        yield from self._epsilon_check("privacy.target_epsilon", privacy.target_epsilon or math.inf)

    def _epsilon_check(self, key: str, value: float) -> Iterator[tuple[str, object, bool, object]]:
        if self.max_epsilon is not None:
            yield key, value, value <= self.max_epsilon, f"<= {self.max_epsilon:g}"


def _value_at(plain: Mapping[str, Any], key: str) -> object:
    for part in key.split("."):
        plain = plain[part]
    return plain
