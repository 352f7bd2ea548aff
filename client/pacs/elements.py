"""The elements of an encoded data set, counted before any of them is made an object of.

pydicom makes an object of every item that it meets: a data set of ten megabytes can hold a million of them, nested as
deep as its sender likes. This walk reads headers of elements only, and stops at the first bound. "PS3.x" is the DICOM
standard, part x.
"""

import struct
from dataclasses import dataclass

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from shared_model.errors import DicomError

MAX_ELEMENTS = 20_000
"""Elements and items of one data set; a mammogram has a few hundred."""
MAX_DEPTH = 32
"""Sequences and items one in another; a mammogram has some eight."""
MAX_TEXT_BYTES = 1 << 16
"""Of one value of text or numbers in text, of which PS3.5 6.2 allows ten thousand characters at most."""

_ITEM_GROUP, _ITEM = 0xFFFE, 0xE000
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""PS3.5 7.1.2: value representations whose length has 32 bits."""
_TEXT = frozenset(
    {b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"LO", b"LT", b"PN", b"SH", b"ST", b"TM", b"UI", b"UC", b"UR"}
)
_FRAGMENTS = frozenset({b"OB", b"OW"})


@dataclass(frozen=True, kw_only=True)
class _Level:
    """A sequence, an item or pixel data in fragments that the walk is inside of."""

    end: int | None
    """Where it ends; None where a delimiter says so."""
    is_implicit: bool
    has_fragments: bool
    """Its items are bytes, not elements."""


@dataclass(frozen=True, kw_only=True)
class _Element:
    tag: tuple[int, int]
    vr: bytes
    length: int
    start: int
    """Of its value."""


def require_bounded(encoded: bytes | memoryview, *, is_implicit: bool) -> None:
    """Check that a little-endian data set has no more elements, levels and long texts than a mammogram may need.

    Args:
        encoded: the data set without the header of PS3.10.
        is_implicit: its transfer syntax is Implicit VR Little Endian.

    Raises:
        DicomError: it has more, or its lengths contradict each other.
    """
    position, count = 0, 0
    levels: list[_Level] = []
    try:
        while position < len(encoded):
            while levels and levels[-1].end is not None and position >= levels[-1].end:
                _require(position == levels.pop().end, "lengths that fit each other")
            count += 1
            _require(count <= MAX_ELEMENTS, f"at most {MAX_ELEMENTS} elements and items")
            here = levels[-1] if levels else _Level(end=None, is_implicit=is_implicit, has_fragments=False)
            element = _element(encoded, position, is_implicit=here.is_implicit)
            position = _enter(element, here, levels)
            _require(len(levels) <= MAX_DEPTH, f"at most {MAX_DEPTH} sequences and items one in another")
    except struct.error:
        position = len(encoded) + 1
    _require(position == len(encoded), "its whole length")


def _element(encoded: bytes | memoryview, position: int, *, is_implicit: bool) -> _Element:
    group, element = struct.unpack_from("<HH", encoded, position)
    if group == _ITEM_GROUP or is_implicit:
        (length,) = struct.unpack_from("<L", encoded, position + 4)
        vr = b"" if group == _ITEM_GROUP else _known_vr(group, element)
        return _Element(tag=(group, element), vr=vr, length=length, start=position + 8)
    vr = bytes(encoded[position + 4 : position + 6])
    long = vr in _LONG
    (length,) = struct.unpack_from("<L" if long else "<H", encoded, position + (8 if long else 6))
    return _Element(tag=(group, element), vr=vr, length=length, start=position + (12 if long else 8))


def _known_vr(group: int, element: int) -> bytes:
    tag = group << 16 | element
    return dictionary_VR(tag).encode() if dictionary_has_tag(tag) else b""


def _enter(element: _Element, here: _Level, levels: list[_Level]) -> int:
    """Return where the walk goes on; ``levels`` gets the level that begins here, or loses the one that ends."""
    is_item, is_undefined = element.tag == (_ITEM_GROUP, _ITEM), element.length == _UNDEFINED
    if element.tag[0] == _ITEM_GROUP and not is_item:
        _require(bool(levels) and here.end is None, "no delimiter outside of a sequence")
        levels.pop()
        return element.start
    if is_item and here.has_fragments:
        _require(not is_undefined, "fragments of known length")
        return element.start + element.length
    if is_item or is_undefined or element.vr == b"SQ":
        # PS3.5 6.2.2: a sequence of unknown kind is implicit inside, whatever stands outside.
        is_implicit = here.is_implicit or (element.vr == b"UN" and is_undefined)
        end = None if is_undefined else element.start + element.length
        has_fragments = is_undefined and element.vr in _FRAGMENTS
        levels.append(_Level(end=end, is_implicit=is_implicit, has_fragments=has_fragments))
        return element.start
    is_short = element.length <= MAX_TEXT_BYTES or element.vr not in _TEXT
    _require(is_short, f"texts of at most {MAX_TEXT_BYTES} bytes")
    return element.start + element.length


def _require(is_met: bool, expectation: str) -> None:
    if not is_met:
        raise DicomError(f"Expected a data set with {expectation}; it is damaged or was made to harm.")
