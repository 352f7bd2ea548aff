"""What a site allows, whatever the server asks: limits in a small file of the site's own.

A request is checked against it before any data are read, by the configuration and the parameters alone, so that a
refusal says nothing about a patient. It tells the server one fixed reason; which limit was passed stands in the site's
own log.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from client.privacy.ledger_history import Limits
from shared_model.config.bounds import Count, Fraction, NotNegative, Positive, SiteName
from shared_model.config.choices import Backbone, EvaluationPrivacy, NoiseSource, PrivacyMode, Views
from shared_model.config.composition import CONFIG_FOLDER
from shared_model.config.experiment import ExperimentConfig, config_keys
from shared_model.config.server_sections import FederationConfig
from shared_model.errors import ConfigError, PolicyError
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.plan import PrivacyPlan
from shared_model.system.checked import checked, require, rule
from shared_model.system.documents import load_yaml
from shared_model.system.sentences import nearest
from shared_model.vocabulary import FeaturePolicy, LesionType

HOSPITAL_POLICY = CONFIG_FOLDER / "site_policy" / "hospital.yaml"
"""What the kits ship."""
OPEN_POLICY = CONFIG_FOLDER / "site_policy" / "open.yaml"
"""Allows everything: for simulations only."""
IdentityText = Annotated[
    str, rule(re.compile("[0-9a-f]{64}").fullmatch, "to be 64 digits 0-9 a-f, as fedmammo site identity prints them")
]


class SecureSum(StrEnum):
    """Whether this site's updates may go into sums of which the server sees nothing else."""

    REFUSE = "refuse"
    ALLOW = "allow"
    DEMAND = "demand"
    """A run without them is refused."""


@checked()
class SitePolicy:
    """The site's limits; a key that the file lacks has the value of the policy that the kits ship.

    Raises:
        ConfigError: a limit is out of bounds, or ``fields`` names a key that no configuration has.
    """

    max_epsilon: Positive | None
    """What one patient may spend in all, over every run there will ever be; null sets no limit at all."""
    max_epsilon_alone: Positive | None
    """What she may spend of it to a server that breaks the secure sums or works with all other sites, which hides her
    behind this site's share of the noise alone; at least ``max_epsilon``. Null grants no more than that."""
    max_delta: Annotated[float, Interval(gt=0, lt=1)]
    """The delta at which both hold, and the largest a run may ask for."""
    min_noise_multiplier: NotNegative
    """Of one step, in multiples of the clipping norm, and of each histogram and sum; of secure sums in the sum."""
    max_grad_norm: Positive
    """A looser clip is refused."""
    max_rounds: Count
    min_patients: Count
    """With fewer training patients the site's process does not start; no request is refused for it."""
    min_cohort_rounding: Count
    """``fedmammo site init`` declares a multiple of it."""
    declared_patients: Count | None
    """The size of its training cohort that the site tells, a constant: at most the true one when it was set. Null is
    for simulations, whose sites count; a deployed site with null answers nobody."""
    validation_fraction: Annotated[float, Interval(ge=0, le=0.5)] | None
    """Share of the training patients kept for choosing the threshold; null follows the configuration."""
    lesion_types: tuple[LesionType, ...] | None
    """Whose lesions take part: the only types that may be asked for. Null follows the configuration."""
    views: Views | None
    """The only value of ``data.views`` that may be asked for; null follows the configuration."""
    max_reject_fraction: Fraction
    """With a larger share of unusable rows the site's process does not start; no request is refused for it."""
    max_bins: Count
    """Most bins of a score histogram."""
    max_local_steps: Count
    min_sampling_rate: Fraction
    max_learning_rate: Positive
    max_image_size: Count
    """Pixels a side."""
    max_magnitude: Positive
    """Largest absolute entry of the parameters and constants of a request."""
    max_request_seconds: Positive | None
    """Training stops after the step in which this is passed; what was reserved stays spent."""
    max_cache_bytes: Positive | None
    """Of the cached images; the least recently used go first."""
    max_releases: Count | None
    """For each purpose, over every run there will ever be: releases that cost next to nothing fill a ledger too."""
    max_refusals_per_day: Count | None
    """After so many refused requests in a day the site answers nothing until the next."""
    reply_grid_seconds: Positive | None
    """Replies leave at whole multiples of this after the request came, which hides most of what their time tells."""
    privacy: tuple[PrivacyMode, ...]
    noise: tuple[NoiseSource, ...]
    evaluation: tuple[EvaluationPrivacy, ...]
    features: tuple[FeaturePolicy, ...]
    backbones: tuple[Backbone, ...]
    secure_sum: SecureSum
    min_sum_sites: Count
    """Fewest sites of a secure sum that may be opened, ``federation.min_sites``."""
    partners: Mapping[SiteName, IdentityText] | None
    """Of every other site of the federation the identity, hexadecimal; null is for simulations, whose sites take the
    identities that come: a deployed site with null refuses secure sums."""
    source_fingerprints: tuple[str, ...] | None
    """Approved source code; null approves whatever code runs here."""
    fields: Mapping[str, tuple[object, ...]]
    """Further keys of the configuration, such as ``data.image.size``, and the values that each may have."""

    def __post_init__(self) -> None:
        alone, in_sums = self.max_epsilon_alone, self.max_epsilon
        expectation = f">= max_epsilon={in_sums}: whoever breaks the sums learns what they say, and more"
        require(alone is None or in_sums is None or alone >= in_sums, expectation, max_epsilon_alone=alone)
        identities = () if self.partners is None else tuple(self.partners.values())
        expectation = "to name every identity once: one site would count as two"
        require(len(set(identities)) == len(identities), expectation, partners=list(self.partners or ()))
        for key in self.fields:
            near = nearest(key, config_keys())
            expectation = "to be a key of the configuration" + (f", such as {near}" if near else "")
            require(key in config_keys(), expectation, fields=key)

    @classmethod
    def load(cls, path: Path, *, defaults: Path | None = None) -> "SitePolicy":
        """Read the file; keys that it lacks come from ``defaults``, or else from ``HOSPITAL_POLICY``.

        Raises:
            ConfigError: it cannot be read, a key is unknown, missing or out of bounds, or it caps epsilon and allows
                what has none.
        """
        policy = load_yaml(
            cls,
            path,
            what="the site policy",
            defaults=defaults or HOSPITAL_POLICY,
            # A file that is older than secure sums grants nothing more by them.
            nulled_beside={"max_epsilon_alone": "max_epsilon"},
        )
        policy._require_all_within_cap(path)
        return policy

    def _require_all_within_cap(self, path: Path) -> None:
        """Check that nothing is allowed that the cap does not bound.

        What has no epsilon the ledger never grants under a cap: a run could ask for it after its training has spent the
        budget, and would end with nothing. Seeded noise is granted, and protects from nobody who knows the seed.
        """
        no_epsilon = "has no epsilon, so that a run would spend its budget and be refused in the end"
        for key, choices, without, reason, rest in (
            ("evaluation", self.evaluation, EvaluationPrivacy.EXACT, no_epsilon, "none, dp"),
            ("privacy", self.privacy, PrivacyMode.OFF, no_epsilon, "patient"),
            ("noise", self.noise, NoiseSource.SEEDED, "protects nobody; a rehearsal has max_epsilon: null", "secure"),
        ):
            if self.max_epsilon is not None and without in choices:
                raise ConfigError(
                    f"Expected {key} without {without} beside max_epsilon={self.max_epsilon:g} in {path}: it {reason}; "
                    f"set {key}: [{rest}]."
                )

    @property
    def limits(self) -> Limits:
        """What the ledger enforces."""
        return Limits(
            max_epsilon=self.max_epsilon,
            max_epsilon_alone=None if self.max_epsilon is None else self.max_epsilon_alone,
            max_delta=self.max_delta,
            max_releases=self.max_releases,
        )

    def require(self, config: ExperimentConfig, source_fingerprint: str) -> None:
        """Check what the server asks for, before any data are read.

        Raises:
            PolicyError: naming the key, the value asked for and what is allowed.
        """
        for key, value, is_allowed, allowed in self._checks(config, source_fingerprint):
            if not is_allowed:
                raise PolicyError(f"Expected {key}={value} to be {allowed}, as this site's policy has it.", key=key)

    def require_noise(self, noise_multiplier: float) -> None:
        """Check the noise of one step, sum or histogram.

        Raises:
            PolicyError: there is too little.
        """
        if not noise_multiplier >= self.min_noise_multiplier:
            message = f"Expected noise_multiplier={noise_multiplier:g} >= {self.min_noise_multiplier:g}."
            raise PolicyError(message, key="min_noise_multiplier")

    def require_alone(self, plan: PrivacyPlan) -> None:
        """Check that a whole run of ``plan`` costs no more than the site grants to whoever breaks its secure sums.

        Raises:
            PolicyError: it costs more: the run would spend budget and be refused in the end.
        """
        granted = self.limits.granted_alone
        released = plan.released(has_mean=True, num_rounds=plan.num_rounds, has_histogram=True)
        alone = [share for share in map(plan.own_share, released) if share is not None]
        if granted is not None and not epsilon(alone, self.max_delta) <= granted:
            message = (
                f"Expected epsilon {epsilon(alone, self.max_delta):.3f} <= {granted:g} at delta {self.max_delta:g} to "
                "whoever breaks the secure sums of this run."
            )
            raise PolicyError(message, key="max_epsilon_alone")

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
        yield from self._sum_checks(config.federation)
        yield from self._cohort_checks(config)
        yield from self._cost_checks(config)
        if privacy.mode is PrivacyMode.PATIENT:
            yield from self._promise_checks(config)
        if evaluation.privacy is EvaluationPrivacy.DP:
            yield "evaluation.delta", evaluation.delta, evaluation.delta <= self.max_delta, f"<= {self.max_delta:g}"
            yield "evaluation.dp_num_bins", evaluation.dp_num_bins, evaluation.dp_num_bins <= self.max_bins, self._bins
            yield from self._epsilon_check("evaluation.target_epsilon", evaluation.target_epsilon)
        if config.has_training_histogram:
            key = "evaluation.num_bins" if privacy.mode is PrivacyMode.OFF else "evaluation.training_bins"
            yield key, config.histogram_bins, config.histogram_bins <= self.max_bins, self._bins
        plain = json.loads(config.to_json()) if self.fields else {}
        for key, values in self.fields.items():
            value = _value_at(plain, key)
            yield key, value, value in values, f"one of {list(values)}"

    @property
    def _bins(self) -> str:
        return f"<= {self.max_bins}"

    def _sum_checks(self, federation: FederationConfig) -> Iterator[tuple[str, object, bool, object]]:
        is_secure, fewest = federation.secure_sum, self.min_sum_sites
        unwanted = SecureSum.REFUSE if is_secure else SecureSum.DEMAND
        is_allowed = self.secure_sum is not unwanted
        yield "federation.secure_sum", str(is_secure).lower(), is_allowed, str(not is_secure).lower()
        if is_secure:
            yield "federation.min_sites", federation.min_sites, federation.min_sites >= fewest, f">= {fewest}"

    def _cohort_checks(self, config: ExperimentConfig) -> Iterator[tuple[str, object, bool, object]]:
        types, views = config.data.lesion_types, config.data.views
        if self.lesion_types is not None:
            is_same = set(types) == set(self.lesion_types)
            yield "data.lesion_types", ", ".join(types), is_same, ", ".join(self.lesion_types)
        if self.views is not None:
            yield "data.views", views, views is self.views, self.views
        if config.evaluation.privacy is EvaluationPrivacy.EXACT:
            bins = config.evaluation.num_bins
            yield "evaluation.num_bins", bins, bins <= self.max_bins, self._bins

    def _cost_checks(self, config: ExperimentConfig) -> Iterator[tuple[str, object, bool, object]]:
        training, size = config.training, config.data.image.size
        for key, value, largest in (
            ("training.num_rounds", training.num_rounds, self.max_rounds),
            ("training.local_steps", training.local_steps, self.max_local_steps),
            ("training.learning_rate", training.learning_rate, self.max_learning_rate),
            ("data.image.size", size, self.max_image_size),
        ):
            yield key, value, value <= largest, f"<= {largest:g}"
        rate = training.sampling_rate
        yield "training.sampling_rate", rate, rate >= self.min_sampling_rate, f">= {self.min_sampling_rate:g}"

    def require_magnitude(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Check the parameters or constants of a request: large ones would magnify what rounding leaves.

        Raises:
            PolicyError: an entry is not finite, or its absolute value is too large.
        """
        for name, array in arrays.items():
            # Written so that NaN fails.
            if array.size and not float(np.abs(array).max()) <= self.max_magnitude:
                message = f"Expected {name} of absolute values <= {self.max_magnitude:g}."
                raise PolicyError(message, key="max_magnitude")

    def _promise_checks(self, config: ExperimentConfig) -> Iterator[tuple[str, object, bool, object]]:
        privacy = config.privacy
        # Null would have been refused by the configuration; infinity makes sure that it is refused here too.
        delta, norm = privacy.delta or math.inf, privacy.max_grad_norm or math.inf
        yield "privacy.noise", privacy.noise, privacy.noise in self.noise, f"one of {', '.join(self.noise)}"
        yield "privacy.delta", delta, delta <= self.max_delta, f"<= {self.max_delta:g}"
        yield "privacy.max_grad_norm", norm, norm <= self.max_grad_norm, f"<= {self.max_grad_norm:g}"
        yield from self._epsilon_check("privacy.target_epsilon", privacy.target_epsilon or math.inf)

    def _epsilon_check(self, key: str, value: float) -> Iterator[tuple[str, object, bool, object]]:
        if self.max_epsilon is not None:
            yield key, value, value <= self.max_epsilon, f"<= {self.max_epsilon:g}"


def _value_at(plain: Mapping[str, Any], key: str) -> object:
    for part in key.split("."):
        plain = plain[part]
    return plain
