"""The experiment's configuration, and the fingerprints of configuration and code."""

from shared_model.config.experiment import ExperimentConfig, compose

__all__ = ["ExperimentConfig", "compose"]
