"""The experiment's configuration, and the fingerprints of configuration and code."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared_model.config.composition import CONFIG_FOLDER, compose
    from shared_model.config.experiment import ExperimentConfig

__all__ = ["CONFIG_FOLDER", "ExperimentConfig", "compose"]

_MODULES = {"CONFIG_FOLDER": "composition", "ExperimentConfig": "experiment", "compose": "composition"}


def __getattr__(name: str) -> object:
    """Import Hydra only when the configuration is asked for: fingerprints and choices do without (PEP 562)."""
    if name in _MODULES:
        return getattr(import_module(f"shared_model.config.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
