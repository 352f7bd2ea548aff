"""Overrides that arrive from elsewhere, in a run's configuration: they set keys of ours to plain values and no more.

On a person's own command line Hydra may do what it can: read environment variables (``${oc.env:HOME}``), evaluate text
(``${oc.decode:...}``), take configuration files from other folders (``hydra.searchpath``, ``preset=../file``). Of
overrides that somebody else wrote, nothing of that may reach Hydra; so they are compared with what is known instead.
"""

import re
from collections.abc import Mapping, Sequence

from shared_model.config.experiment import config_keys
from shared_model.config.hydra_groups import read_override
from shared_model.errors import ConfigError
from shared_model.system.sentences import not_one_of, shown

_MAX_OVERRIDES, _MAX_CHARACTERS = 500, 20_000
_ASSIGNMENT = re.compile(r"([a-z_]+(?:\.[a-z_]+)*)=(.*)", re.DOTALL)
INTERPOLATION = "${"
"""What begins a text that OmegaConf replaces by a value from elsewhere."""


def require_plain(overrides: Sequence[str], options: Mapping[str, Sequence[str]]) -> None:
    """Check that each override sets a key of the configuration to a plain value, or a group to one of its options.

    Args:
        overrides: as they came.
        options: of every group of ``configs/``, the names of its files.

    Raises:
        ConfigError: one of them does something else; or they are too many or too long.
    """
    if len(overrides) > _MAX_OVERRIDES or any(len(override) > _MAX_CHARACTERS for override in overrides):
        raise ConfigError(
            f"Expected at most {_MAX_OVERRIDES} overrides of at most {_MAX_CHARACTERS} characters from elsewhere."
        )
    for override in overrides:
        _require_plain(override, options)


def _require_plain(override: str, options: Mapping[str, Sequence[str]]) -> None:
    found = _ASSIGNMENT.fullmatch(override)
    if INTERPOLATION in override:
        raise ConfigError(
            f"Expected overrides from elsewhere without ${{...}}, got {shown(override)}; write the value."
        )
    if found is None or (found[1] not in options and found[1] not in config_keys()):
        raise ConfigError(
            f"Expected overrides from elsewhere to set keys of the configuration (key=value), got {shown(override)}."
        )
    assignment = read_override(override)
    if assignment is None or assignment.is_sweep or isinstance(assignment.value, dict):
        raise ConfigError(f"Expected one plain value for {found[1]} from elsewhere, got {shown(override)}.")
    choices = options.get(found[1])
    if choices is not None and assignment.value not in choices:
        raise ConfigError(not_one_of(found[1], assignment.value, choices))
