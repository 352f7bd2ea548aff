"""The experiment's configuration, and the fingerprints of configuration and code."""

from shared_model.config.composition import CONFIG_FOLDER, compose
from shared_model.config.experiment import ExperimentConfig

__all__ = ["CONFIG_FOLDER", "ExperimentConfig", "compose"]
