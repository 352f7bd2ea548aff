"""Dataclasses whose bounds stand in their annotations: an object of one is valid, or it does not exist.

    @checked(key="training")
    class TrainingConfig:
        num_rounds: Annotated[int, Ge(1)]
        momentum: Annotated[float, Interval(ge=0, lt=1)]

``TrainingConfig(...)``, ``dataclasses.replace`` and ``build``, which reads plain values (what JSON and YAML give)
check alike: an unknown or missing key, a value of another type, NaN, infinity and a value out of bounds are errors. One
sentence names key, value and what was expected. A whole number may stand for a float, a list for a tuple, an
enumeration's value for its member; neither a bool nor text is a number. pydantic does the checking.
"""

import dataclasses
import functools
import operator
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, LiteralString, TypeVar, dataclass_transform

import pydantic.dataclasses
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    Strict,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError, core_schema

from shared_model.errors import ConfigError
from shared_model.system.sentences import RELATION, RULE, sentence

T = TypeVar("T")
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)
_READER = "__checked_reader__"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def checked(*, key: str | None = None, error: type[Exception] = ConfigError) -> Callable[[type[T]], type[T]]:
    """Return the decorator that makes a class a frozen dataclass with keyword arguments, all of them checked.

    A relation between fields is checked in ``__post_init__``, with ``require``. A field that is a dataclass must be a
    checked one.

    Args:
        key: what the fields' names follow in messages, for an object that is not built as part of another; empty for
            none. Without it, the name of the class.
        error: what is raised, with one sentence.
    """

    def decorate(kind: type[T]) -> type[T]:
        path = kind.__name__ if key is None else key
        hints = typing.get_type_hints(kind, include_extras=True)
        kind.__annotations__ = {name: _from_plain(hints[name]) for name in vars(kind).get("__annotations__", {})}
        made: Any = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_CONFIG)(kind)
        validate = made.__init__

        @functools.wraps(validate)
        def initialise(self: T, **values: object) -> None:
            try:
                validate(self, **values)
            except ValidationError as found:
                raise error(sentence(found, made, path)) from found

        made.__init__ = initialise
        setattr(made, _READER, _Reader(adapter=TypeAdapter(made), error=error))
        return typing.cast(type[T], made)

    return decorate


def build(kind: type[T], values: object, *, path: str = "") -> T:
    """Build the checked dataclass ``kind`` from a plain mapping.

    Args:
        kind: decorated with ``checked``, whose ``error`` is raised.
        values: what JSON or YAML gave; anything but a mapping is an error.
        path: what the keys follow in messages.

    Raises:
        ConfigError: or the ``error`` of ``kind``: a key is unknown or missing, a type differs, or a value is out of
            bounds.
    """
    reader: _Reader = getattr(kind, _READER)
    try:
        return typing.cast(T, reader.adapter.validate_python(values))
    except ValidationError as found:
        raise reader.error(sentence(found, kind, path)) from found


def to_plain(value: object) -> object:
    """Return a checked dataclass as plain values, which ``build`` reads again; keys are the fields, in their order."""
    reader: _Reader = getattr(type(value), _READER)
    return reader.adapter.dump_python(value, mode="json")


def rule(is_met: Callable[[Any], bool], expectation: str) -> AfterValidator:
    """Return a bound for ``Annotated`` that no interval can state.

    Args:
        is_met: of the value, which has the right type already.
        expectation: what the message says after key and value, for example ``to be distinct``.
    """

    def check(value: T) -> T:
        if not is_met(value):
            raise _unmet(RULE, expectation)
        return value

    return AfterValidator(check)


class AsList:
    """For ``Annotated``: a dataclass of floats that is a list in plain values, for example ``[low, high]``."""

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Return what pydantic needs; the dataclass ``source`` checks its own values, and raises ``ValueError``."""
        names = [field.name for field in dataclasses.fields(source)]
        numbers = handler.generate_schema(types.GenericAlias(tuple, (Annotated[float, Strict()],) * len(names)))

        def read(value: object, read_numbers: core_schema.ValidatorFunctionWrapHandler) -> object:
            if isinstance(value, source):
                return value
            if not isinstance(value, list) or len(value) != len(names):
                raise _unmet(RULE, f"to be a list of {' and '.join(names)}")
            return source(**dict(zip(names, read_numbers(value), strict=True)))

        written = core_schema.plain_serializer_function_ser_schema(lambda value: list(dataclasses.astuple(value)))
        return core_schema.no_info_wrap_validator_function(read, numbers, serialization=written)


DISTINCT = rule(lambda values: len(set(values)) == len(values), "to be distinct")
"""No entry of the list stands in it twice."""
NOT_EMPTY = rule(bool, "not to be empty")
"""Of text and lists."""


def require(is_met: bool, expectation: str, **values: object) -> None:
    """Check a relation between the fields of a checked dataclass, in its ``__post_init__``.

    Args:
        is_met: whether it holds.
        expectation: what the message says after keys and values, for example ``<= num_units=3``.
        values: by field; those that the message names.
    """
    if not is_met:
        raise _unmet(RELATION, expectation, values=values)


def _unmet(kind: LiteralString, expectation: str, **context: object) -> PydanticCustomError:
    return PydanticCustomError(kind, "{expectation}", {"expectation": expectation, **context})


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reader:
    """What a checked dataclass knows about itself."""

    adapter: TypeAdapter[Any]
    error: type[Exception]


def _from_plain(hint: Any) -> Any:  # noqa: ANN401
    """Return the annotation as pydantic needs it for plain values.

    By itself it is either lax, and takes the text "3" for a number and a set for a list, or strict, and takes no list
    for a tuple.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        # Bounds are of the value that the innermost annotation admits, so they come after what is added to it.
        return hint if dataclasses.is_dataclass(inner[0]) else Annotated[(_from_plain(inner[0]), *inner[1:])]
    if origin in {types.UnionType, typing.Union}:
        return functools.reduce(operator.or_, map(_from_plain, inner))
    if origin is tuple:
        return Annotated[types.GenericAlias(tuple, (_from_plain(inner[0]), ...)), Strict(), BeforeValidator(_as_tuple)]
    if origin is Mapping:
        return types.GenericAlias(Mapping, (_from_plain(inner[0]), _from_plain(inner[1])))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return Annotated[hint, Strict(), BeforeValidator(functools.partial(_as_member, hint))]
    if dataclasses.is_dataclass(hint) and not hasattr(hint, _READER):
        raise TypeError(f"Expected the dataclass {hint} to be checked.")
    return Annotated[hint, Strict()] if hint in {bool, int, float, str} else hint


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _as_member(kind: type[StrEnum], value: object) -> object:
    return kind(value) if isinstance(value, str) and value in set(kind) else value
