"""Hydra, which merges the groups of ``configs/`` and the overrides of a command line: the only module that knows it."""

import copy
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from shared_model.errors import ConfigError

# Hydra asserts what it holds for impossible, and some overrides are.
_FAULTS = (HydraException, OmegaConfBaseException, AssertionError, AttributeError, OSError, TypeError, ValueError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assignment:
    """An override, understood."""

    value: object
    """Text, number, bool, list or mapping; None for null and where the key is to be removed."""
    is_sweep: bool
    """Whether it stands for several values, one a run, which only Hydra's own launcher knows how to start."""


def composed(folder: Path, overrides: Sequence[str]) -> object:
    """Return the plain values of ``folder/experiment.yaml`` with its groups and ``overrides``.

    The files of a folder are read once in a process for every choice of groups.

    Raises:
        ConfigError: Hydra does not know an override, or a value without default is not given.
    """
    try:
        return _plain(_with_values(folder, overrides))
    except _FAULTS:
        # What is wrong Hydra itself has to say.
        pass
    try:
        return _plain(_whole(folder, overrides))
    except MissingMandatoryValue as error:
        raise ConfigError(f"Expected a value for {error.full_key}, for example {error.full_key}=...") from error
    except _FAULTS as error:
        raise ConfigError(f"Expected overrides that fit together, got {' '.join(overrides)}.") from error


def _plain(tree: DictConfig) -> object:
    return OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)


def _whole(folder: Path, overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("experiment", overrides=list(overrides))


@functools.lru_cache(maxsize=64)
def _of_groups(folder: Path, choices: tuple[str, ...]) -> DictConfig:
    return _whole(folder, choices)


def _with_values(folder: Path, overrides: Sequence[str]) -> DictConfig:
    """Return what ``_whole`` does, in a tenth of the time: Hydra too sets values after it has merged all groups.

    Raises:
        ValueError: an override does more than to choose a group's option or to change a value.
    """
    choices: list[Override] = []
    values: list[Override] = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        is_choice = (folder / override.key_or_group).is_dir()
        if not _is_plain(override) or is_choice > isinstance(override.value(), str):
            raise ValueError(f"Expected a plain override, got {override.input_line}.")
        (choices if is_choice else values).append(override)
    tree = copy.deepcopy(_of_groups(folder, tuple(str(choice.input_line) for choice in choices)))
    for override in values:
        OmegaConf.update(tree, override.key_or_group, override.value(), merge=True)
    return tree


def _is_plain(override: Override) -> bool:
    """Return whether an override has no sign, no package, one value, and is none of Hydra's own."""
    return (
        override.type is OverrideType.CHANGE
        and override.package is None
        and not override.is_sweep_override()
        and "/" not in override.key_or_group
        and not override.key_or_group.startswith("hydra")
    )


def read_override(text: str) -> Assignment | None:
    """Return what one override says, None where Hydra cannot read it."""
    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError):
        return None
    if override.is_sweep_override():
        return Assignment(value=None, is_sweep=True)
    return Assignment(value=override.value(), is_sweep=False)
