"""What is wrong with a value, in one line for the person who wrote it: key, value, and what was expected."""

import dataclasses
import difflib
import reprlib
import typing
from collections.abc import Iterable, Mapping, Sequence, Set
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

RULE = "rule"
"""Type of the error where ``shared_model.system.checked.rule`` is not met; its context holds the expectation."""
RELATION = "relation"
"""The same for ``require``; its context holds the values too, by field."""
_UNKNOWN = {"unexpected_keyword_argument", "invalid_key"}
_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_MANY = 12
"""More known keys are not listed."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def sentence(error: ValidationError, kind: type, path: str) -> str:
    """Return what is wrong with the values that were to be the dataclass ``kind``.

    Of several faults, unknown keys come first, then missing keys, then the first wrong value.

    Args:
        error: what pydantic found.
        kind: whose annotations say what was expected.
        path: what the keys follow, for example ``results``; empty for none.
    """
    faults = error.errors(include_url=False)
    folder, names = _keys(faults, _UNKNOWN)
    if names:
        known = [field.name for field in dataclasses.fields(_Hint.at(kind, folder).base)]
        # Compared without their folder: a long one would make all of them alike.
        near = nearest(names[0], known) if len(names) == 1 else None
        near = _dotted(path, (*folder, near)) if near else None
        return unknown_keys([_dotted(path, (*folder, name)) for name in names], near=near, known=known)
    folder, names = _keys(faults, {"missing"})
    if names:
        listed = ", ".join(_dotted(path, (*folder, name)) for name in names)
        return f"Missing {'key' if len(names) == 1 else 'keys'} {listed}; every key must be given."
    return _wrong_value(faults[0], kind, path)


def unknown_keys(keys: Sequence[str], *, near: str | None, known: Sequence[str]) -> str:
    """Return that there are no such ``keys``, that ``near`` may have been meant, and which are known, if few."""
    parts = [f"Unknown {'key' if len(keys) == 1 else 'keys'} {', '.join(keys)}."]
    parts += [f"Did you mean {near}?"] if near else []
    parts += [f"Known here: {', '.join(known)}."] if len(known) <= _MANY else []
    return " ".join(parts)


def not_one_of(key: str, value: object, choices: Sequence[str]) -> str:
    """Return that ``value`` is none of ``choices``, and which of them may have been meant."""
    near = nearest(value, choices) if isinstance(value, str) else None
    question = f" Did you mean {near}?" if near else ""
    return f"Expected {key} to be one of {', '.join(choices)}, got {quoted(value)}.{question}"


def nearest(given: str, known: Iterable[str]) -> str | None:
    """Return the one of ``known`` that ``given`` is probably a misspelling of, None if none is near.

    >>> nearest("trainig", ["privacy", "training"])
    'training'
    """
    return next(iter(difflib.get_close_matches(given, list(known), n=1)), None)


def shown(value: object) -> str:
    """Return ``value`` as it stands after ``key=`` in a message: short, on one line, text without quotes if it can."""
    is_plain = isinstance(value, str) and value.isprintable() and 0 < len(value) <= _SHORT.maxstring
    return str(value) if is_plain else quoted(value)


def quoted(value: object) -> str:
    """Return ``value`` as ``shown``, with text in quotes."""
    if isinstance(value, StrEnum):
        return repr(str(value))
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, tuple | list):
        value = [str(entry) if isinstance(entry, StrEnum) else entry for entry in value]
    return "null" if value is None else " ".join(_SHORT.repr(value).split())


def _keys(faults: Sequence[ErrorDetails], kinds: Set[str]) -> tuple[tuple[int | str, ...], list[str]]:
    """Return the mapping in which the first fault of ``kinds`` lies, and the keys of all of them that lie in it."""
    places = [fault["loc"] for fault in faults if fault["type"] in kinds]
    folder = places[0][:-1] if places else ()
    return folder, sorted(str(place[-1]) for place in places if place[:-1] == folder)


def _wrong_value(fault: ErrorDetails, kind: type, path: str) -> str:
    location = _without_members(fault["loc"], kind)
    key, value, context = _dotted(path, location), fault["input"], fault.get("ctx", {})
    if fault["type"] == RELATION:
        prefix = f"{key}." if key else ""
        pairs = " and ".join(f"{prefix}{name}={shown(entry)}" for name, entry in context["values"].items())
        return f"Expected {pairs} {context['expectation']}."
    if fault["type"] == "value_error":
        return f"{key}: {context['error']}" if key else str(context["error"])
    if location[-1:] == ("[key]",):
        return f"Expected the keys of {_dotted(path, location[:-2])} to be text, got {quoted(value)}."
    hint = _Hint.at(kind, location)
    bound = _bound(fault["type"], hint) or context.get("expectation")
    if bound:
        return f"Expected {key}={shown(value)} {bound}."
    if isinstance(hint.base, type) and issubclass(hint.base, StrEnum):
        return not_one_of(key, value, list(hint.base))
    return f"Expected {f'{key} to be ' if key else ''}{hint.type_in_words}, got {quoted(value)}."


def _without_members(location: tuple[int | str, ...], kind: type) -> tuple[int | str, ...]:
    """Return ``location`` without what pydantic adds for a value that may be of several types: the type it tried."""
    for end in range(len(location)):
        if _Hint.at(kind, location[:end]).words:
            return location[:end]
    return location


def _bound(fault: str, hint: "_Hint") -> str | None:
    """Return the bound that a number does not meet; None where something else is wrong."""
    return "to be finite" if fault == "finite_number" else hint.bounds if fault in _BOUNDS else None


def _dotted(path: str, location: Iterable[object]) -> str:
    for part in location:
        path = f"{path}[{part}]" if isinstance(part, int) else f"{path}.{_name(part)}" if path else _name(part)
    return path


def _name(key: object) -> str:
    return shown(" ".join(str(key).split()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Hint:
    """An annotation, taken apart."""

    base: Any
    metadata: tuple[object, ...]
    is_nullable: bool
    words: tuple[str, ...] = ()
    """What may stand in place of a value of type ``base``."""

    @classmethod
    def of(cls, annotation: Any) -> "_Hint":  # noqa: ANN401
        """Take ``annotation`` apart; of a union the first member counts, null, and the values of an enumeration."""
        origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            hint = cls.of(inner[0])
            return dataclasses.replace(hint, metadata=(*hint.metadata, *inner[1:]))
        if origin in {UnionType, typing.Union}:
            members = [member for member in inner if member is not NoneType]
            others = [cls.of(member).base for member in members[1:]]
            words = tuple(str(word) for other in others if issubclass(other, StrEnum) for word in other)
            return dataclasses.replace(cls.of(members[0]), is_nullable=NoneType in inner, words=words)
        return cls(base=annotation, metadata=(), is_nullable=False)

    @classmethod
    def at(cls, kind: type, location: Iterable[object]) -> "_Hint":
        """Return the annotation of the value at ``location`` in the dataclass ``kind``."""
        hint = cls.of(kind)
        for part in location:
            if dataclasses.is_dataclass(hint.base):
                name = dataclasses.fields(hint.base)[part].name if isinstance(part, int) else str(part)
                inner = typing.get_type_hints(hint.base, include_extras=True)[name]
            else:
                inner = typing.get_args(hint.base)[-1 if typing.get_origin(hint.base) is Mapping else 0]
            hint = cls.of(inner)
        return hint

    @property
    def bounds(self) -> str:
        """The interval of the value, for example ``in [0, 1)`` or ``>= 1``."""
        limits = {
            name: limit
            for bound in self.metadata
            for name in _SIGNS
            if (limit := getattr(bound, name, None)) is not None
        }
        if len(limits) == 1:
            text = " ".join(f"{_SIGNS[name]} {_number(limit)}" for name, limit in limits.items())
        else:
            low, high = (
                next(limits[name] for name in names if name in limits) for names in (("ge", "gt"), ("le", "lt"))
            )
            text = f"in {'[' if 'ge' in limits else '('}{_number(low)}, {_number(high)}{']' if 'le' in limits else ')'}"
        return text

    @property
    def type_in_words(self) -> str:
        """What the value must be, for example ``a whole number or null``."""
        if dataclasses.is_dataclass(self.base) or typing.get_origin(self.base) is Mapping:
            words = "a mapping"
        else:
            words = "a list" if typing.get_origin(self.base) is tuple else _TYPES.get(self.base, self.base.__name__)
        alternatives = (words, *self.words, *(("null",) if self.is_nullable else ()))
        return " or ".join(filter(None, (", ".join(alternatives[:-1]), alternatives[-1])))


def _number(limit: float) -> str:
    """Return a bound as people write it: 2^63 in full says nothing."""
    is_power = isinstance(limit, int) and limit > 2**31 and limit.bit_count() == 1
    return f"2^{int(limit).bit_length() - 1}" if is_power else str(limit)
