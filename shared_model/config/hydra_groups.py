"""Hydra, which merges the groups of ``configs/`` and the overrides of a command line: the only module that knows it."""

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from shared_model.errors import ConfigError


def composed(folder: Path, overrides: Sequence[str]) -> object:
    """Return the plain values of ``folder/experiment.yaml`` with its groups and ``overrides``.

    Raises:
        ConfigError: Hydra does not know an override, or a value without default is not given.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            tree = compose("experiment", overrides=list(overrides))
        return OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"Expected a value for {error.full_key}, for example {error.full_key}=...") from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"Cannot compose the configuration: {' '.join(str(error).split())}") from error
