"""The parameters of a message as one array of float32 values, beside the names and shapes of what it is made of.

Flower sends every array of a message as two objects, each with requests of its own to and from its server: two dozen
for a network of a few kilobytes, and most of the time of a round. Nothing is encoded: the values stand one after
another, in C order and to the last bit, and the facts of the message have three lists for each group of arrays.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from shared_model.errors import ProtocolError
from shared_model.messages.checked_values import FACTS, MAX_DIMENSIONS, MAX_ENTRIES, MAX_NAME_CHARACTERS, decode_array
from shared_model.network.named_arrays import Float32Array, Parameters

ARRAYS, VALUES = "arrays", "values"
"""The record, and its one array."""
_NAMES, _DIMENSIONS, _SIZES = "names", "dimensions", "sizes"

Item = TypeVar("Item", int, str)


def join_arrays(facts: Mapping[str, int | float | str], groups: Mapping[str, Parameters]) -> RecordDict:
    """Return the records of a message: its facts, and the arrays of ``groups``, which are float32, as one.

    >>> records = join_arrays({"site": "A"}, {"update": {"w": np.float32([[1, 2]]), "b": np.float32(3)}})
    >>> dict(records["facts"])
    {'site': 'A', 'update-names': ['w', 'b'], 'update-dimensions': [2, 0], 'update-sizes': [1, 2]}
    >>> records["arrays"]["values"].numpy().tolist()
    [1.0, 2.0, 3.0]
    """
    record, values = ConfigRecord(dict(facts)), [np.zeros(0, np.float32)]
    for group, parameters in groups.items():
        arrays = [np.asarray(array, order="C") for array in parameters.values()]
        record[f"{group}-{_NAMES}"] = list(parameters)
        record[f"{group}-{_DIMENSIONS}"] = [array.ndim for array in arrays]
        record[f"{group}-{_SIZES}"] = [size for array in arrays for size in array.shape]
        values += [array.ravel() for array in arrays]
    return RecordDict({FACTS: record, ARRAYS: ArrayRecord({VALUES: Array(np.concatenate(values))})})


def split_arrays(
    content: RecordDict, facts: Mapping[str, object], groups: Sequence[str]
) -> tuple[dict[str, Float32Array], ...]:
    """Return the arrays of each of ``groups`` by name: finite, of the shapes and in the order that the sender gives.

    Raises:
        ProtocolError: the values or a list are missing or malformed, a name comes twice, the shapes take other values
            than there are, or a value is not finite.
    """
    values = _read_values(content)
    shapes = [_read_shapes(facts, group) for group in groups]
    num_wanted = sum(math.prod(shape) for group in shapes for shape in group.values())
    if num_wanted != len(values):
        raise ProtocolError(f"Expected the shapes of {', '.join(groups)} to take the {len(values)} values that came.")
    rest = iter(_cut(values, [shape for group in shapes for shape in group.values()]))
    found = tuple({name: next(rest) for name in group} for group in shapes)
    for group, arrays in zip(groups, found, strict=True):
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise ProtocolError(f"Expected {group}[{name!r}] to be finite.")
    return found


def _read_values(content: RecordDict) -> Float32Array:
    if ARRAYS not in content.array_records:
        raise ProtocolError(f"Expected a record {ARRAYS!r}, got {sorted(content)}.")
    record = content.array_records[ARRAYS]
    if list(record) != [VALUES]:
        raise ProtocolError(f"Expected {VALUES!r} alone in the record {ARRAYS!r}, got {len(record)} entries.")
    values = decode_array(VALUES, record[VALUES], np.dtype(np.float32))
    if values.ndim != 1:
        raise ProtocolError(f"Expected {VALUES!r} of one dimension, got {values.ndim}.")
    return values


def _read_shapes(facts: Mapping[str, object], group: str) -> dict[str, tuple[int, ...]]:
    names = _read_list(facts, f"{group}-{_NAMES}", str, most=MAX_ENTRIES)
    dimensions = _read_list(facts, f"{group}-{_DIMENSIONS}", int, most=MAX_ENTRIES)
    sizes = _read_list(facts, f"{group}-{_SIZES}", int, most=MAX_ENTRIES * MAX_DIMENSIONS)
    if len(set(names)) != len(names) or any(len(name) > MAX_NAME_CHARACTERS for name in names):
        raise ProtocolError(f"Expected names of {group} of at most {MAX_NAME_CHARACTERS} characters, each once.")
    if len(dimensions) != len(names) or not all(0 <= number <= MAX_DIMENSIONS for number in dimensions):
        raise ProtocolError(f"Expected 0 to {MAX_DIMENSIONS} dimensions of each of {group}.")
    if len(sizes) != sum(dimensions) or not all(0 <= size < 2**31 for size in sizes):
        raise ProtocolError(f"Expected a size from 0 for each dimension of {group}.")
    left = iter(sizes)
    shapes = [tuple(next(left) for _ in range(number)) for number in dimensions]
    # NumPy counts what an array without values would hold if its sizes of 0 were 1.
    if any(math.prod(filter(None, shape)) >= 2**31 for shape in shapes):
        raise ProtocolError(f"Expected arrays of {group} of fewer than 2^31 values.")
    return dict(zip(names, shapes, strict=True))


def _read_list(facts: Mapping[str, object], key: str, kind: type[Item], *, most: int) -> list[Item]:
    value = facts.get(key)
    if not isinstance(value, list) or len(value) > most or not all(type(item) is kind for item in value):
        raise ProtocolError(f"Expected {key} to be a list of at most {most} values of type {kind.__name__}.")
    return value


def _cut(values: Float32Array, shapes: Sequence[tuple[int, ...]]) -> Iterator[Float32Array]:
    start = 0
    for shape in shapes:
        end = start + math.prod(shape)
        yield values[start:end].reshape(shape)
        start = end
