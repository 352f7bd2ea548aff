import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.pacs.elements import MAX_DEPTH, MAX_ELEMENTS, require_bounded
from shared_model.errors import DicomError
from tests.pacs_films import encoded_items

ITEM, END = b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\x0d\xe0\x00\x00\x00\x00"
SEQUENCE, SEQUENCE_END = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff", b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"


def nested(depth):
    return (SEQUENCE + ITEM) * depth + (END + SEQUENCE_END) * depth


def test_what_mammograms_have_passes():
    require_bounded(b"\x10\x00\x20\x00LO\x02\x00A1" + encoded_items(3) + nested(4), is_implicit=False)
    require_bounded(b"\x10\x00\x20\x00\x02\x00\x00\x00A1", is_implicit=True)
    # Pixel data in fragments, whose bytes are no elements.
    fragment = b"\xfe\xff\x00\xe0\x04\x00\x00\x00\xff\xff\xff\xff"
    require_bounded(b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff" + fragment + SEQUENCE_END, is_implicit=False)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (encoded_items(1_000_000), f"at most {MAX_ELEMENTS} elements"),
        (nested(MAX_DEPTH), f"at most {MAX_DEPTH} sequences"),
        (b"\x10\x00\x20\x00UC\x00\x00" + struct.pack("<L", 70_000) + bytes(70_000), "texts of at most"),
        (b"\x10\x00\x20\x00LO\xff\x00A1", "its whole length"),
        (b"\x10\x00\x20", "its whole length"),
        (END, "no delimiter outside"),
    ],
)
def test_what_would_harm_is_refused_without_an_object_of_it(encoded, message):
    with pytest.raises(DicomError, match=message):
        require_bounded(encoded, is_implicit=False)


@given(encoded=st.binary(max_size=400), is_implicit=st.booleans())
def test_any_bytes_pass_or_are_refused(encoded, is_implicit):
    with suppress(DicomError):
        require_bounded(encoded, is_implicit=is_implicit)
