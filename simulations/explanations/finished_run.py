"""A finished run with what it takes to score its test lesions again, pixel by pixel."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from client.data.dataset import finding_numbers, load_all_lesions
from client.data.tables.site_table import site_table
from server.evaluation.predictions import PREDICTIONS_FILE, Predictions
from shared_model.config.choices import Modality, Views
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError
from shared_model.explanations.saliency import LesionScorer
from shared_model.network.efficientnet import EfficientNetLite, load_efficientnet_lite
from shared_model.network.fusion import FusionNet
from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import Split
from simulations.evaluation.finished_model import FinishedModel
from simulations.explanations.faithfulness import randomised


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run with what it takes to score its test lesions again."""

    folder: Path
    config: ExperimentConfig
    network: FusionNet
    predictions: Predictions
    threshold: float
    frame: pd.DataFrame
    """The test lesions' rows, in the order of ``predictions``."""
    clinical: Tensor
    """``(N, C)``, what the network reads of their columns."""
    other_views: tuple[Tensor | None, ...]
    """Of every row the features ``(V, D)`` of the lesion's other views; None where every view is scored by itself."""

    @classmethod
    def open(cls, folder: Path) -> "FinishedRun":
        """Read the run and find its test lesions in the data.

        Raises:
            ConfigError: no finished run, one without images or threshold, or its test lesions are not in the data.
        """
        model = FinishedModel.open(folder)
        config, threshold = model.config, model.threshold
        if config.model.modality is Modality.CLINICAL or threshold is None:
            raise ConfigError(f"Expected a run with images and an operating threshold in {folder}.")
        predictions = Predictions.from_csv(folder / PREDICTIONS_FILE)
        frame, lesions = _test_lesions(config)
        if frame["label"].to_list() != predictions.labels.tolist():
            raise ConfigError("Expected the run's own test split in data.root; it has other lesions.")
        return cls(
            folder=folder,
            config=config,
            network=model.network,
            predictions=predictions,
            threshold=threshold,
            frame=frame,
            clinical=lesions.clinical,
            other_views=(None,) * len(frame) if config.data.views is Views.OWN else _other_views(config),
        )

    @property
    def frozen_encoder(self) -> EfficientNetLite | None:
        """The encoder whose features the network reads; None where it has its own."""
        backbone = self.config.model.backbone
        return load_efficientnet_lite(backbone) if backbone.is_frozen else None

    def scorer(self, row: int) -> LesionScorer:
        """Return the scorer of one lesion."""
        return LesionScorer(
            self.network,
            self.clinical[row],
            frozen_encoder=self.frozen_encoder,
            other_views=self.other_views[row],
        )

    def outcome(self, row: int) -> str:
        """Return ``found cancer``, ``missed cancer``, ``false alarm`` or ``benign, as called``."""
        is_called = self.predictions.scores[row] >= self.threshold
        if self.predictions.labels[row]:
            return "found cancer" if is_called else "missed cancer"
        return "false alarm" if is_called else "benign, as called"

    def select_rows(self, count: int) -> list[int]:
        """Return ``count`` rows: up to a quarter each of the worst misses, worst false alarms and surest finds.

        The rest is drawn at random, by the run's seed. All rows are returned where there are fewer.
        """
        missed, alarms = self.predictions.misclassified(self.threshold)
        order = [int(row) for row in np.argsort(self.predictions.scores, kind="stable")]
        finds = [row for row in order[::-1] if self.outcome(row) == "found cancer"]
        part = max(1, count // 4)
        selected = [*missed[:part], *alarms[:part], *finds[:part]]
        others = numpy_generator(self.config.seed, "explain").permutation([r for r in order if r not in selected])
        return [*selected, *(int(row) for row in others)][:count]


def _test_lesions(config: ExperimentConfig) -> tuple[pd.DataFrame, Lesions]:
    lesions, table = load_all_lesions(site_table(config, None), config)
    is_test = (table.frame["split"] == Split.TEST).to_numpy(dtype=bool)
    return table.frame[is_test].reset_index(drop=True), lesions.select(torch.from_numpy(is_test))


def _other_views(config: ExperimentConfig) -> tuple[Tensor | None, ...]:
    """Return for every test row the features ``(V, D)`` of the lesion's other views."""
    by_itself = dataclasses.replace(config, data=dataclasses.replace(config.data, views=Views.OWN))
    frame, lesions = _test_lesions(by_itself)
    findings, rows = finding_numbers(frame), torch.arange(len(frame))
    return tuple(lesions.images[(findings == findings[row]) & lesions.has_image & (rows != row)] for row in rows)


@dataclass(frozen=True, kw_only=True)
class RandomisedNetwork:
    """The network of a run with every weight tensor shuffled, of the head and of the encoder."""

    network: FusionNet
    frozen_encoder: EfficientNetLite | None
    """In place of a frozen encoder, which is no part of the network."""

    @classmethod
    def from_run(cls, run: FinishedRun, *, seed: int) -> "RandomisedNetwork":
        """Shuffle copies of what scores the run's lesions."""
        frozen = run.frozen_encoder
        return cls(
            network=randomised(run.network, seed=seed),
            frozen_encoder=None if frozen is None else randomised(frozen, seed=seed),
        )

    def scorer(self, run: FinishedRun, row: int) -> LesionScorer:
        """Return the scorer of one lesion."""
        return LesionScorer(
            self.network, run.clinical[row], frozen_encoder=self.frozen_encoder, other_views=run.other_views[row]
        )
