"""The global network on the server: built from the configuration, rescaled at the end, and evaluated after rounds.

Three kinds of lesions may serve, none of which a site's training has seen: the server's own test lesions
(``evaluation.holdout``), public lesions on which the threshold is chosen (``evaluation.public``), and, where the server
has none of its own, the sites' test and validation lesions, of which it knows score histograms only. With
``evaluation.threshold_from=training`` a histogram of training patients chooses the threshold instead.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from server.evaluation.feature_constants import fit_feature_constants
from server.evaluation.private_mean import constants_without
from server.evaluation.shipped_constants import load_shipped, set_shipped
from server.evaluation.site_histograms import histogram_auroc, operating_threshold, sensitivity_specificity
from server.evaluation.threshold import threshold_for_sensitivity
from shared_model.config.choices import ConstantsFrom, EvaluationPrivacy
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.errors import CohortError, ConfigError
from shared_model.messages import Histogram
from shared_model.metrics.confusion import ConfusionCounts
from shared_model.metrics.counts import FloatArray
from shared_model.metrics.platt_scaling import PlattScaling, fit_platt_scaling
from shared_model.metrics.roc import auroc
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.network.fusion import FusionNet, build_network
from shared_model.network.named_arrays import Parameters
from shared_model.network.scoring import predict
from shared_model.network.state import (
    constants_state,
    load_constants,
    load_feature_constants,
    load_trainable,
    trainable_state,
)
from shared_model.reference.reference_file import Reference
from shared_model.vocabulary import clinical_width


@dataclass(frozen=True, kw_only=True)
class GlobalMetrics:
    """Metrics of one set of parameters; each is None where the test lesions do not hold the classes it needs."""

    auroc: float | None
    sensitivity: float | None
    """At ``threshold``."""
    specificity: float | None
    """At ``threshold``."""
    threshold: float | None
    """Chosen on public, validation or training patients; None where there are none this round, or noise hides them."""
    scores: NDArray[np.float64] | None
    """``(N,)``: scores of the server's own test lesions; None when it has none."""
    site_test: Histogram | None
    """The sites' test lesions together; None when the sites sent nothing this round."""


@dataclass(frozen=True, kw_only=True)
class GlobalModel:
    """The network, and the lesions on which the server evaluates it."""

    config: ExperimentConfig
    network: FusionNet
    holdout: Lesions | None
    """The server's own test lesions."""
    public: Lesions | None
    """Lesions that are public, so that using them costs no privacy."""
    reference: Reference | None = None
    """Numbers of public lesions that the network began with; None where it has none."""

    @classmethod
    def from_config(cls, config: ExperimentConfig) -> "GlobalModel":
        """Build the network as it begins, its constants those of public lesions, and read the server's lesions.

        Raises:
            ConfigError: the network needs public patients and there are none, nobody would have test lesions, or as
                ``load_shipped``.
            DataError: a file of lesions cannot be read.
        """
        if config.evaluation.privacy is EvaluationPrivacy.NONE and config.evaluation.holdout is None:
            raise ConfigError("Expected evaluation.holdout, the server's own test file, with evaluation.privacy=none.")
        holdout, public = (_load(path) for path in (config.evaluation.holdout, config.evaluation.public))
        network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
        fits_constants = config.model.feature_constants is ConstantsFrom.PUBLIC and config.model.reads_frozen_features
        if public is not None and fits_constants:
            constants = fit_feature_constants(
                public.images[public.has_image], num_components=config.model.image_components
            )
            load_feature_constants(network, constants)
        reference = load_shipped(config)
        if reference is not None:
            set_shipped(network, reference, config)
        return cls(config=config, network=network, holdout=holdout, public=public, reference=reference)

    @property
    def initial_parameters(self) -> Parameters:
        """The trainable parameters as they stand."""
        return trainable_state(self.network)

    @property
    def constants(self) -> Parameters:
        """Parameters that are not trained, made from public data alone."""
        return constants_state(self.network)

    def take_out(self, direction: FloatArray) -> None:
        """Project the features' mean ``direction``, a unit vector ``(D,)``, out of what the network reads."""
        load_feature_constants(self.network, constants_without(direction))

    def set_constants(self, constants: Parameters) -> None:
        """Set what ``constants`` returned before.

        Raises:
            ValueError: names or shapes are not those of the network.
        """
        load_constants(self.network, constants)

    def rescale_scores(self, parameters: Parameters) -> Parameters:
        """Return parameters with the same ranking, whose scores are probabilities on the public lesions (Platt).

        Without public lesions of both classes, or where malignant ones do not have the higher scores, ``parameters``
        are returned as they are.
        """
        if self.public is None:
            return parameters
        load_trainable(self.network, parameters)
        scaling = fit_platt_scaling(self.public.labels.numpy(), predict(self.network, self.public))
        return parameters if scaling is None else self.rescaled(parameters, scaling)

    def rescaled(self, parameters: Parameters, scaling: PlattScaling) -> Parameters:
        """Return parameters whose logits are those of ``parameters`` after ``scaling``."""
        load_trainable(self.network, parameters)
        self.network.rescale_logits(scale=scaling.scale, offset=scaling.offset)
        return trainable_state(self.network)

    def evaluate(
        self,
        parameters: Parameters,
        *,
        test: Histogram | None,
        validation: Histogram | None,
        threshold: float | None = None,
    ) -> GlobalMetrics | None:
        """Return the metrics of ``parameters``; None where neither the sites nor the server have test lesions.

        Args:
            parameters: the trainable ones.
            test: scores of the sites' test lesions under these parameters, None where the sites sent none.
            validation: the same of their validation lesions.
            threshold: chosen already, on training patients; None where that is not so, or not yet.

        Raises:
            CohortError: no malignant lesion to choose the threshold on.
        """
        load_trainable(self.network, parameters)
        if not self.config.has_training_histogram:
            threshold = self._threshold(validation)
        if self.holdout is not None:
            return self._on_holdout(self.holdout, threshold, test)
        return None if test is None else self._on_histogram(test, threshold)

    def _on_holdout(self, holdout: Lesions, threshold: float | None, test: Histogram | None) -> GlobalMetrics:
        labels, scores = holdout.labels.numpy(), predict(self.network, holdout)
        counts = None if threshold is None else ConfusionCounts.from_scores(labels, scores, threshold)
        return GlobalMetrics(
            auroc=auroc(labels, scores) if len(set(labels)) == 2 else None,
            sensitivity=None if counts is None else counts.sensitivity,
            specificity=None if counts is None else counts.specificity,
            threshold=threshold,
            scores=scores,
            site_test=test,
        )

    def _on_histogram(self, test: Histogram, threshold: float | None) -> GlobalMetrics:
        site_auroc = histogram_auroc(test)
        if threshold is not None and isinstance(test, ScoreHistogram):
            # Exact counts are counted from a bin edge on: a threshold inside a bin moves down to its lower edge.
            # The last edge is that of the last bin.
            threshold = min(math.floor(threshold * test.num_bins + 1e-9), test.num_bins - 1) / test.num_bins
        sensitivity, specificity = (None, None) if threshold is None else sensitivity_specificity(test, threshold)
        return GlobalMetrics(
            auroc=None if site_auroc is None else site_auroc.value,
            sensitivity=sensitivity,
            specificity=specificity,
            threshold=threshold,
            scores=None,
            site_test=test,
        )

    def _threshold(self, validation: Histogram | None) -> float | None:
        target = self.config.evaluation.target_sensitivity
        if self.public is None:
            return None if validation is None else operating_threshold(validation, target)
        if not self.public.labels.any():
            raise CohortError("Expected a malignant lesion among the public patients, got none.")
        scores = predict(self.network, self.public)
        return threshold_for_sensitivity(self.public.labels.numpy(), scores, target)


def _load(path: str | None) -> Lesions | None:
    return None if path is None else Lesions.load(Path(path))
