"""How large a request may be: looked at before anything of it is unpacked, copied or checked.

What a request costs in memory and time grows with its bytes, with the number of its arrays and with the length of its
names. The bounds are far above those of every network that this software builds.
"""

from collections.abc import Iterator, Mapping

from shared_model.errors import ProtocolError

MAX_BYTES = 2**27
"""All arrays, values and names together: twice the largest network."""
MAX_RECORDS = 8
"""A request has three."""
MAX_ENTRIES = 2**11
"""Arrays and values of all records together; the deepest network has some 400 arrays."""
MAX_NAME = 256
"""Characters of a name, and of an array's type; a path of modules is shorter."""
MAX_VALUE = 2**18
"""Characters, bytes or numbers of a single value; the configuration, the longest of them, has some 4,000."""
_NUMBER_BYTES = 8


def require_size(records: Mapping[str, Mapping[str, object]]) -> None:
    """Check the size of a request, without copying anything of it.

    Args:
        records: by name; the entries of a record are arrays, with ``dtype``, ``shape`` and ``data``, or values.

    Raises:
        ProtocolError: it is too large; what the site holds has no say in it.
    """
    num_entries = sum(len(record) for record in records.values())
    for name, value, largest in (("records", len(records), MAX_RECORDS), ("entries", num_entries, MAX_ENTRIES)):
        if value > largest:
            raise ProtocolError(f"Expected a request of {name}={value} <= {largest}.")
    total = 0
    for name, num_bytes, largest in _parts(records):
        total += num_bytes
        if num_bytes > largest or total > MAX_BYTES:
            limit = largest if num_bytes > largest else MAX_BYTES
            raise ProtocolError(f"Expected {name} of a request to keep it within {limit} bytes.")


def _parts(records: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, int, int]]:
    """Yield what each part is, its length, and the largest that it may have."""
    for name, record in records.items():
        yield "a record's name", len(name), MAX_NAME
        for key, value in record.items():
            yield "a name", len(key), MAX_NAME
            data = getattr(value, "data", None)
            if isinstance(data, bytes):
                yield "an array's type", len(str(getattr(value, "dtype", ""))), MAX_NAME
                yield "an array's shape", _NUMBER_BYTES * len(getattr(value, "shape", ())), MAX_NAME
                yield "an array", len(data), MAX_BYTES
            else:
                yield "a value", sum(map(_length, value if isinstance(value, list) else [value])), MAX_VALUE


def _length(value: object) -> int:
    # An empty text takes memory too.
    return _NUMBER_BYTES + (len(value) if isinstance(value, str | bytes) else 0)
