"""A hash chain: every entry carries the digest of itself and of the entry before, so that a later change shows.

An entry that is edited, removed, added or moved no longer fits its neighbours. What a chain cannot show by itself is
that its end was cut off: for that, the last digest is kept in a second place. A site's ledger and the audit logs are
such chains.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

FIRST_PREVIOUS = "0" * 64
"""Stands where the first entry of a chain would name the digest of the one before."""


def digest_of(fields: Mapping[str, object] | Sequence[object]) -> str:
    """Return the SHA-256, 64 hexadecimal digits, of an entry's ``fields`` as JSON with sorted keys.

    Args:
        fields: all that the entry says, the digest of the entry before among it; JSON values.

    >>> digest_of({"sequence": 1, "previous": FIRST_PREVIOUS})[:16]
    '66a2c5f8e613003f'
    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Link:
    """What a chain is verified by: one entry's number and digests."""

    sequence: int
    """From 1."""
    previous: str
    """The digest of the entry before, as this entry names it."""
    digest: str
    """Its own digest, as it was stored."""
    expected_digest: str
    """Its own digest, computed from what it says now."""


def first_broken(links: Iterable[Link]) -> int | None:
    """Return the position, from 1, of the first link that does not fit; None if the whole chain holds.

    >>> digests = [digest_of([1, FIRST_PREVIOUS]), digest_of([2, digest_of([1, FIRST_PREVIOUS])])]
    >>> first = Link(sequence=1, previous=FIRST_PREVIOUS, digest=digests[0], expected_digest=digests[0])
    >>> second = Link(sequence=2, previous=digests[0], digest=digests[1], expected_digest=digests[1])
    >>> first_broken([first, second])
    >>> first_broken([second])
    1
    """
    previous = FIRST_PREVIOUS
    for number, link in enumerate(links, start=1):
        if (link.sequence, link.previous, link.digest) != (number, previous, link.expected_digest):
            return number
        previous = link.digest
    return None
