"""The global network's figures, from the server's own test lesions and from the sites' added histograms."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared_model.config import ExperimentConfig, Modality
from shared_model.errors import CohortError
from shared_model.evaluation import predict
from shared_model.fusion import (
    FusionNet,
    build_network,
    calibrate,
    constants_state,
    load_trainable,
    trainable_state,
)
from shared_model.lesions import Lesions
from shared_model.mammography import clinical_width
from shared_model.metrics import (
    ConfusionCounts,
    ScoreHistogram,
    auroc,
    auroc_from_histogram,
    exact_threshold_for_sensitivity,
    threshold_for_sensitivity,
)
from shared_model.parameters import Parameters


@dataclass(frozen=True, kw_only=True)
class GlobalEvaluation:
    """Figures of one set of parameters; None where the test lesions are of one class."""

    auroc: float | None
    confusion: ConfusionCounts
    threshold: float
    """Chosen on public or validation patients."""
    scores: NDArray[np.float64] | None
    """Scores of the server's own test lesions; None when it has none."""
    site_test: ScoreHistogram
    """The sites' test lesions together."""


@dataclass(frozen=True, kw_only=True)
class GlobalEvaluator:
    """The server's network and lesions."""

    config: ExperimentConfig
    network: FusionNet
    holdout: Lesions | None
    public: Lesions | None

    @classmethod
    def open(cls, config: ExperimentConfig) -> "GlobalEvaluator":
        """Build the untrained network, calibrated on the public patients, and read the server's lesions.

        Raises:
            ConfigError: the network needs public patients and there are none.
            DataError: a file of lesions cannot be read.
        """
        holdout, public = (_load(path) for path in (config.evaluation.holdout, config.evaluation.public))
        network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
        if public is not None and config.model.modality is not Modality.CLINICAL and config.model.backbone.is_frozen:
            network.set_constants(
                calibrate(public.images[public.has_image], num_components=config.model.image_components)
            )
        return cls(config=config, network=network, holdout=holdout, public=public)

    @property
    def initial_parameters(self) -> Parameters:
        """The trainable parameters as they stand."""
        return trainable_state(self.network)

    @property
    def constants(self) -> Parameters:
        """The network's public constants."""
        return constants_state(self.network)

    def evaluate(self, parameters: Parameters, *, test: ScoreHistogram, validation: ScoreHistogram) -> GlobalEvaluation:
        """Return the figures of ``parameters``, given the sites' histograms of test and validation lesions.

        Raises:
            CohortError: no malignant lesion to choose the threshold on.
        """
        load_trainable(self.network, parameters)
        threshold = self._threshold(validation)
        if self.holdout is None:
            # A histogram's threshold is a bin edge; one from single scores is moved down to the next.
            num_bins = self.config.evaluation.num_bins
            threshold = math.floor(threshold * num_bins + 1e-9) / num_bins
            return GlobalEvaluation(
                auroc=auroc_from_histogram(test),
                confusion=ConfusionCounts.from_histogram(test, threshold),
                threshold=threshold,
                scores=None,
                site_test=test,
            )
        labels, scores = self.holdout.labels.numpy(), predict(self.network, self.holdout)
        return GlobalEvaluation(
            auroc=auroc(labels, scores),
            confusion=ConfusionCounts.from_scores(labels, scores, threshold),
            threshold=threshold,
            scores=scores,
            site_test=test,
        )

    def _threshold(self, validation: ScoreHistogram) -> float:
        target = self.config.evaluation.target_sensitivity
        has_malignant = validation.positives.any() if self.public is None else self.public.labels.any()
        if not has_malignant:
            raise CohortError("Expected a malignant lesion among public or validation patients, got none.")
        if self.public is None:
            return threshold_for_sensitivity(validation, target)
        scores = predict(self.network, self.public)
        return exact_threshold_for_sensitivity(self.public.labels.numpy(), scores, target)


def _load(path: str | None) -> Lesions | None:
    return None if path is None else Lesions.load(Path(path))
