"""Frozen dataclasses to JSON and back, strictly.

Keys are the fields in their order; an interval is ``[low, high]``, an enumeration its value. An unknown, missing or
repeated key, a value of another type, NaN and infinity are errors.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NoReturn, TypeVar, cast

from shared_model.metrics.intervals import ConfidenceInterval

T = TypeVar("T")


def to_text(value: object) -> str:
    """Return ``value``, a dataclass, as indented JSON.

    Raises:
        TypeError, ValueError: a value is not plain, for instance one of a NumPy type, or not finite.
    """
    return json.dumps(_encode(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_text(text: str) -> object:
    """Return plain JSON values; repeated keys, NaN and infinity are refused.

    Raises:
        ValueError: ``text`` is no such JSON.
    """
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeats)


def build(kind: type[T], values: object, path: str) -> T:
    """Return plain ``values`` as the dataclass ``kind``; ``path`` names them in errors.

    Raises:
        ValueError: a key or value is not what the annotations say.
    """
    return cast(T, _decode(kind, values, path))


def check(owner: object, name: str, is_met: bool, expectation: str) -> None:
    """Raise ``ValueError`` naming the field ``name`` of ``owner`` unless ``is_met``."""
    if not is_met:
        raise ValueError(f"Expected {type(owner).__name__}.{name}={getattr(owner, name)} {expectation}.")


def check_range(owner: object, low: float, high: float | None, *names: str) -> None:
    """Check that the fields ``names`` are null or finite and in [low, high]; NaN is in no range."""
    for name in names:
        value = getattr(owner, name)
        is_met = value is None or (low <= value <= high if high is not None else low <= value < float("inf"))
        check(owner, name, is_met, f"in [{low}, {high}]" if high is not None else f">= {low} and finite")


def _encode(value: object) -> object:
    if isinstance(value, ConfidenceInterval):
        return [value.low, value.high]
    if dataclasses.is_dataclass(value):
        return {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    return [_encode(entry) for entry in value] if isinstance(value, tuple) else value


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"Expected finite numbers, got {constant}.")


def _refuse_repeats(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError(f"Expected every key once, got {', '.join(key for key, _ in pairs)}.")
    return values


def _decode(kind: Any, value: object, path: str) -> object:  # noqa: ANN401
    """Return ``value``, as JSON gives it, as the annotation ``kind`` wants it."""
    if isinstance(kind, types.UnionType):
        return None if value is None else _decode(typing.get_args(kind)[0], value, path)
    if kind is ConfidenceInterval:
        low, high = _decode_list(float, value, path, length=2)
        return ConfidenceInterval(low=cast(float, low), high=cast(float, high))
    if dataclasses.is_dataclass(kind):
        return _decode_fields(kind, value, path)
    if typing.get_origin(kind) is tuple:
        return _decode_list(typing.get_args(kind)[0], value, path, length=None)
    if typing.get_origin(kind) is Mapping:
        entries = _expect(dict, value, path)
        return {key: _expect(str, entry, f"{path}.{key}") for key, entry in entries.items()}
    return _decode_scalar(kind, value, path)


def _decode_fields(kind: Any, value: object, path: str) -> object:  # noqa: ANN401
    values = _expect(dict, value, path)
    hints = typing.get_type_hints(kind)
    different = sorted(set(values) ^ set(hints))
    if different:
        raise ValueError(f"Expected {path} with the keys {', '.join(hints)}; unknown or missing: {different}.")
    return kind(**{name: _decode(hint, values[name], f"{path}.{name}") for name, hint in hints.items()})


def _decode_list(kind: Any, value: object, path: str, *, length: int | None) -> tuple[object, ...]:  # noqa: ANN401
    entries = _expect(list, value, path)
    if length not in (None, len(entries)):
        raise ValueError(f"Expected {path}={entries} of {length} entries.")
    return tuple(_decode(kind, entry, f"{path}[{i}]") for i, entry in enumerate(entries))


def _decode_scalar(kind: type, value: object, path: str) -> object:
    if issubclass(kind, StrEnum):
        if value not in tuple(kind):
            raise ValueError(f"Expected {path}={value!r} to be one of {', '.join(kind)}.")
        return kind(str(value))
    return float(value) if kind is float and type(value) is int else _expect(kind, value, path)


def _expect(kind: type, value: object, path: str) -> Any:  # noqa: ANN401
    if type(value) is not kind:
        raise ValueError(f"Expected {path}={value!r} to be of type {kind.__name__}.")
    return value
