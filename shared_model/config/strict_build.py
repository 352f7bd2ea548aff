"""Plain mappings to frozen dataclasses: an unknown or missing key, or a value of another type, is an error."""

import dataclasses
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

from shared_model.errors import ConfigError

T = TypeVar("T")


def build(kind: type[T], values: object, *, path: str) -> T:
    """Build the frozen dataclass ``kind`` from a plain mapping, strictly.

    Raises:
        ConfigError: a key is unknown or missing, a type differs, or a value is out of bounds.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"Expected {path or 'the configuration'} to be a mapping, got {reprlib.repr(values)}.")
    hints = _hints(kind)  # type: ignore[arg-type]
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    prefix = f"{path}." if path else ""
    for problem, keys in (
        ("Unknown", sorted(" ".join(str(key).split()) for key in set(values) - set(names))),
        ("Missing", sorted(set(names) - set(values))),
    ):
        if keys:
            listed = ", ".join(f"{prefix}{key}" for key in keys)
            raise ConfigError(f"{problem} configuration key {listed}; known here: {', '.join(names)}.")
    return kind(**{name: _convert(hints[name], values[name], prefix + name) for name in names})


@lru_cache(maxsize=256)
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _convert(kind: Any, value: object, path: str) -> Any:  # noqa: ANN401
    """Return ``value``, as JSON or YAML gives it, as the annotation ``kind`` wants it; ``object`` takes anything."""
    allowed = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    inner, origin = allowed[0], typing.get_origin(allowed[0])
    if inner is object or (value is None and types.NoneType in allowed):
        return value
    if dataclasses.is_dataclass(inner):
        return build(inner, value, path=path)  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_list(typing.get_args(inner)[0], value, path)
    if origin is Mapping:
        return _convert_mapping(typing.get_args(inner)[1], value, path)
    return _convert_scalar(allowed, value, path)


def _convert_scalar(allowed: Sequence[Any], value: object, path: str) -> object:
    choices = [option for option in allowed if isinstance(option, type) and issubclass(option, StrEnum)]
    if choices and isinstance(value, str):
        return _convert_choice(choices[0], value, path)
    if float in allowed and type(value) is int:
        return _convert_integer(value, path)
    if type(value) not in allowed:
        names = " or ".join("null" if option is types.NoneType else option.__name__ for option in allowed)
        raise ConfigError(f"Expected {path} to be {names}, got {reprlib.repr(value)}.")
    return value


def _convert_integer(value: int, path: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ConfigError(f"Expected {path} to be float, got an integer of {value.bit_length()} bits.") from error


def _convert_list(inner: Any, value: object, path: str) -> tuple[Any, ...]:  # noqa: ANN401
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"Expected {path} to be a list, got {reprlib.repr(value)}.")
    return tuple(_convert(inner, entry, f"{path}[{i}]") for i, entry in enumerate(value))


def _convert_mapping(inner: Any, value: object, path: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"Expected {path} to be a mapping with text keys, got {reprlib.repr(value)}.")
    return {key: _convert(inner, entry, f"{path}.{key}") for key, entry in value.items()}


def _convert_choice(kind: type[StrEnum], value: str, path: str) -> StrEnum:
    if value not in {str(member) for member in kind}:
        raise ConfigError(f"Expected {path} to be one of {', '.join(kind)}, got {reprlib.repr(value)}.")
    return kind(value)
