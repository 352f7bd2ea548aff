"""Hydra, which merges the groups of ``configs/`` and the overrides of a command line: the only module that knows it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from shared_model.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assignment:
    """An override, understood."""

    value: object
    """Text, number, bool, list or mapping; None for null and where the key is to be removed."""
    is_sweep: bool
    """Whether it stands for several values, one a run, which only Hydra's own launcher knows how to start."""


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
    # Hydra asserts what it holds for impossible, and some overrides are.
    except (
        HydraException,
        OmegaConfBaseException,
        AssertionError,
        AttributeError,
        OSError,
        TypeError,
        ValueError,
    ) as error:
        raise ConfigError(f"Expected overrides that fit together, got {' '.join(overrides)}.") from error


def read_override(text: str) -> Assignment | None:
    """Return what one override says, None where Hydra cannot read it."""
    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError):
        return None
    if override.is_sweep_override():
        return Assignment(value=None, is_sweep=True)
    return Assignment(value=override.value(), is_sweep=False)
