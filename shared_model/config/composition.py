"""The configuration of a command: ``configs/`` and what the command line changes in it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from shared_model.config.choices import Aggregation
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import ConfigError
from shared_model.system.checked import build

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "configs"
AUTO = "auto"
"""The value of ``strategy.aggregation`` that stands for one by ``federation.secure_sum``; no configuration holds it."""
_REFUSED = {
    "training.oversampling": "Expected no oversampling: a patient drawn more often than the accountant assumes has "
    "less privacy than reported; use training.positive_weight or training.loss=focal against class imbalance."
}


def compose(overrides: Sequence[str]) -> ExperimentConfig:
    """Compose ``configs/experiment.yaml`` with Hydra overrides such as ``preset=smoke`` or ``seed=1``.

    Raises:
        ConfigError: an override cannot be read, or a key, type or value is wrong.
    """
    # Hydra takes longer to import than all the rest of the configuration, and a site never composes.
    from shared_model.config.hydra_groups import composed  # noqa: PLC0415
    from shared_model.config.override_messages import first_fault  # noqa: PLC0415

    for override in overrides:
        if override.lstrip("+").split("=")[0] in _REFUSED:
            raise ConfigError(_REFUSED[override.lstrip("+").split("=")[0]])
    try:
        values = composed(CONFIG_FOLDER, overrides)
    except ConfigError as error:
        raise ConfigError(first_fault(overrides, CONFIG_FOLDER) or str(error)) from error
    return build(ExperimentConfig, settled(values))


def settled(values: object) -> object:
    """Return composed ``values`` with the aggregation that ``auto`` stands for: ``guarded``, of secure sums ``mean``.

    Anything else, also what is no configuration, stays as it is for ``build`` to judge.

    >>> settled({"strategy": {"aggregation": "auto"}, "federation": {"secure_sum": True}})["strategy"]
    {'aggregation': 'mean'}
    """
    if not isinstance(values, dict):
        return values
    strategy, federation = values.get("strategy"), values.get("federation")
    if not isinstance(strategy, dict) or not isinstance(federation, dict) or strategy.get("aggregation") != AUTO:
        return values
    rule = Aggregation.MEAN if federation.get("secure_sum") is True else Aggregation.GUARDED
    return {**values, "strategy": {**strategy, "aggregation": rule.value}}


def compose_received(text: str) -> ExperimentConfig:
    """Compose from overrides that came from elsewhere, in one text as a shell has them, for example ``seed=1``.

    They may set keys of the configuration to plain values and groups to their options, and nothing else: no
    ``${...}``, no key of Hydra's own, no file from another folder.

    Raises:
        ConfigError: an override does something else, or as ``compose``.
    """
    from shared_model.config.override_messages import group_options  # noqa: PLC0415, as above
    from shared_model.config.received_overrides import require_plain  # noqa: PLC0415

    try:
        overrides = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"Expected overrides as a shell has them, with closed quotes: {error}.") from error
    require_plain(overrides, group_options(CONFIG_FOLDER))
    return compose(overrides)
