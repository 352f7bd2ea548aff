"""Readers of what arrived from outside: each returns a value of the expected type, shape and range, or raises.

The sender may be anyone, so nothing is parsed that can be compared instead.
"""

import io
import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from numpy.typing import NDArray

from shared_model.errors import ProtocolError
from shared_model.system.peer_text import peer_text

FACTS = "facts"
"""The record of single values that every message has."""
MAX_PATIENTS = 10_000_000
"""More patients than any hospital has."""
MAX_DIMENSIONS = 8
MAX_RECORDS, MAX_ENTRIES, MAX_NAME_CHARACTERS = 8, 2000, 200
"""Of a message, of a record, and of the name of either: a network of ours has some hundred arrays."""
_NEVER = 1e-9
"""Probability of what is taken for impossible."""

Scalar = TypeVar("Scalar", int, float, str)
AnyScalar = TypeVar("AnyScalar", bound=np.generic)


def require_modest(content: RecordDict) -> None:
    """Check that a message has no more records, entries and letters in names than any of ours, before it is read.

    Reading takes time for every entry, and an error that lists names repeats them. Only sizes are looked at here.

    Raises:
        ProtocolError: it has more.
    """
    if len(content) > MAX_RECORDS:
        raise ProtocolError(f"Expected at most {MAX_RECORDS} records, got {len(content)}.")
    for record in content.values():
        if len(record) > MAX_ENTRIES:
            raise ProtocolError(f"Expected at most {MAX_ENTRIES} entries in a record, got {len(record)}.")
    longest = max((len(name) for names in (content, *content.values()) for name in names), default=0)
    if longest > MAX_NAME_CHARACTERS:
        raise ProtocolError(f"Expected names of at most {MAX_NAME_CHARACTERS} characters, got {longest}.")


def read_facts(content: RecordDict) -> Mapping[str, object]:
    """Return the record of single values.

    Raises:
        ProtocolError: it is missing.
    """
    if FACTS not in content.config_records:
        raise ProtocolError(f"Expected a record {FACTS!r}, got {sorted(content)}.")
    return content.config_records[FACTS]


def read_scalar(
    facts: Mapping[str, object], key: str, kind: type[Scalar], *, low: float | None = None, high: float | None = None
) -> Scalar:
    """Return the value of ``key``, of exactly the type ``kind``, finite, and in ``[low, high]`` where these are given.

    Raises:
        ProtocolError: it is missing, or one of these does not hold.
    """
    value = facts.get(key)
    if type(value) is not kind:
        raise ProtocolError(f"Expected {key} of type {kind.__name__}, got {type(value).__name__}.")
    if isinstance(value, float) and not np.isfinite(value):
        raise ProtocolError(f"Expected {key}={value} to be finite.")
    if not isinstance(value, str):
        if low is not None and value < low:
            raise ProtocolError(f"Expected {key}={value} >= {low}.")
        if high is not None and value > high:
            raise ProtocolError(f"Expected {key}={value} <= {high}.")
    return value


def read_counts(record: ArrayRecord, key: str, num_bins: int) -> NDArray[np.int64]:
    """Return exact counts ``(num_bins,)``: not negative, and together at most ``MAX_PATIENTS``.

    Raises:
        ProtocolError: the array is missing, malformed or out of range.
    """
    counts = _read_array(record, key, np.dtype(np.int64))
    if counts.shape != (num_bins,) or (counts < 0).any() or counts.sum(dtype=np.float64) > MAX_PATIENTS:
        raise ProtocolError(f"Expected {key} to be {num_bins} counts >= 0, got shape {counts.shape}.")
    return counts


def read_noisy_counts(record: ArrayRecord, key: str, num_bins: int, noise_std: float) -> NDArray[np.float64]:
    """Return counts with noise ``(num_bins,)``: finite, each at most ``MAX_PATIENTS``.

    There are no fewer than 0 patients in a bin, so that a count is below 0 by its noise alone: Gaussian noise of
    deviation ``noise_std`` goes below ``-noise_std * sqrt(2 log(num_bins / p))`` in none of the bins, but with
    probability p = 10^-9.

    Raises:
        ProtocolError: the array is missing, malformed or out of range.
    """
    counts = _read_array(record, key, np.dtype(np.float64))
    least = -noise_std * math.sqrt(2 * math.log(num_bins / _NEVER))
    # Written so that NaN fails.
    if counts.shape != (num_bins,) or not ((counts >= least) & (counts <= MAX_PATIENTS)).all():
        raise ProtocolError(
            f"Expected {key} to be {num_bins} counts from {least:.4g} (noise alone) to {MAX_PATIENTS}, got shape "
            f"{counts.shape} and least {counts.min(initial=math.inf):.4g}."
        )
    return counts


def _read_array(record: ArrayRecord, key: str, dtype: np.dtype[AnyScalar]) -> NDArray[AnyScalar]:
    if key not in record:
        raise ProtocolError(f"Expected an array {key!r}, got {sorted(record)}.")
    return decode_array(key, record[key], dtype)


def decode_array(name: str, array: Array, dtype: np.dtype[AnyScalar]) -> NDArray[AnyScalar]:
    """Return the array of ``dtype`` that ``np.save`` wrote with the declared shape, C-ordered.

    The header is compared with the one expected instead of parsed: NumPy's reader unpickles, opens zip files, allocates
    what a header claims and fails in a dozen ways, none of which a stranger's bytes should reach.

    Raises:
        ProtocolError: another dtype, more than eight dimensions, or other bytes than ``np.save`` writes for the shape.
    """
    if array.dtype != str(dtype):
        raise ProtocolError(f"Expected array {name!r} of {dtype}, got {peer_text(array.dtype, 20)!r}.")
    shape, content = array.shape, array.data
    if len(shape) > MAX_DIMENSIONS or not all(0 <= size <= len(content) for size in shape):
        raise ProtocolError(f"Expected array {name!r} of a shape that its {len(content)} bytes can fill.")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    start = len(header.getvalue())
    if not content.startswith(header.getvalue()) or len(content) != start + math.prod(shape) * dtype.itemsize:
        raise ProtocolError(f"Expected array {name!r} in NumPy format, of the declared shape and type.")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).copy()
