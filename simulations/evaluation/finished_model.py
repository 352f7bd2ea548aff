"""The final network of a finished run, as its folder holds it; no data of the run are needed."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import yaml
from safetensors import SafetensorError
from safetensors.numpy import load

from server.evaluation.predictions import PREDICTIONS_FILE, Predictions
from server.report.run_folder import CONFIG_FILE, MODEL_FILE
from server.results.document import RESULTS_FILE, Results, read_results
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import ConfigError, DataError
from shared_model.network.fusion import FusionNet, build_network
from shared_model.network.state import load_constants, load_trainable, trainable_state
from shared_model.vocabulary import clinical_width


@dataclass(frozen=True, kw_only=True)
class FinishedModel:
    """What it takes to score lesions as the run would have."""

    folder: Path
    config: ExperimentConfig
    results: Results
    network: FusionNet
    digest: str
    """SHA-256 of the file that holds the network."""
    predictions: Predictions | None
    """The run's own test lesions; None where its server had none."""

    @property
    def threshold(self) -> float | None:
        """The score from which on the run calls a lesion malignant; None where it has chosen none."""
        return self.results.final.threshold

    @classmethod
    def open(cls, folder: Path) -> "FinishedModel":
        """Read the run folder.

        Raises:
            ConfigError: it holds no finished run, or a file of it cannot be read.
        """
        try:
            values = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            config = ExperimentConfig.from_json(json.dumps(values))
            content = (folder / MODEL_FILE).read_bytes()
            return cls(
                folder=folder,
                config=config,
                results=read_results(folder / RESULTS_FILE),
                network=_network(config, content),
                digest=hashlib.sha256(content).hexdigest(),
                predictions=_own_predictions(folder),
            )
        except (OSError, TypeError, ValueError, yaml.YAMLError, SafetensorError, DataError) as error:
            raise ConfigError(f"Expected a finished run in {folder}: {' '.join(str(error).split())}") from error


def _network(config: ExperimentConfig, content: bytes) -> FusionNet:
    arrays = load(content)
    network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
    trainable = set(trainable_state(network))
    load_trainable(network, {name: array for name, array in arrays.items() if name in trainable})
    load_constants(network, {name: array for name, array in arrays.items() if name not in trainable})
    return network


def _own_predictions(folder: Path) -> Predictions | None:
    path = folder / PREDICTIONS_FILE
    return Predictions.from_csv(path) if path.exists() else None
