"""JSON and YAML to plain values; a repeated key is an error, since nobody can know which of its values was meant."""

import copy
import functools
import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from shared_model.errors import ConfigError
from shared_model.system.checked import build, to_plain

T = TypeVar("T")


def from_json(text: str | bytes) -> object:
    """Return the plain values of a JSON text; it may hold NaN and infinity, which no checked field takes.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or repeats a key.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def to_json(value: object) -> str:
    """Return a checked dataclass as indented JSON, of which ``from_json`` and ``build`` make the same again.

    Raises:
        ValueError: text in it is no Unicode, or a value that nobody checks is not finite.
    """
    return json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load_yaml(
    kind: type[T],
    path: Path,
    *,
    what: str,
    defaults: Path | None = None,
    nulled_beside: Mapping[str, str] | None = None,
) -> T:
    """Read the checked dataclass ``kind`` from a YAML file.

    Args:
        kind: its fields are the keys of the file.
        path: of the file.
        what: is in the file, for the message; for example ``the site policy``.
        defaults: a file of the same kind, whose values stand where ``path`` lacks a key.
        nulled_beside: keys by the key to which their default belongs: where ``path`` gives only the latter, the former
            is null.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or a key is repeated, unknown, missing or wrong.
    """
    try:
        values = _plain_yaml(path)
        if defaults is not None and isinstance(values, dict):
            nulled = {key: None for key, other in (nulled_beside or {}).items() if other in values}
            values = {**dict(_plain_yaml(defaults)), **nulled, **values}
        return build(kind, values)
    except ConfigError as error:
        raise ConfigError(f"In {what} {path}: {error}") from error
    except OSError as error:
        raise ConfigError(f"Expected {what} {path}: {error.strerror}.") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"Expected {what} {path} to be a YAML file: {' '.join(str(error).split())}") from error


def _plain_yaml(path: Path) -> Any:  # noqa: ANN401, whatever the file holds
    # A policy is read for every request, and parsing takes longer than the rest.
    return copy.deepcopy(_parsed(path.read_text(encoding="utf-8")))


@functools.lru_cache(maxsize=32)
def _parsed(text: str) -> Any:  # noqa: ANN401, whatever the text holds
    return yaml.load(text, Loader=_Loader)  # noqa: S506, a safe loader


class _Loader(yaml.SafeLoader):
    """Refuses repeated keys, of which YAML's own loader takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _require_once([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        return super().construct_mapping(node, deep=deep)


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    _require_once([key for key, _ in pairs])
    return dict(pairs)


def _require_once(keys: Iterable[str]) -> None:
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise ValueError(f"Expected every key once, got {', '.join(repeated)} more than once.")
