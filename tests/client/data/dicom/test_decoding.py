"""The pixel format that a data set claims; decoding itself is tested on whole files, with the reader."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from client.data.dicom.decoding import MAX_SIDE, PixelFormat, read_pixel_format
from shared_model.errors import DicomError

VALID = {
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "Rows": 3,
    "Columns": 4,
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 0,
    "PixelData": bytes(24),
}


def dataset_of(**changes):
    dataset = Dataset()
    for keyword, value in (VALID | changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


@given(st.integers(1, 16), st.booleans())
def test_the_range_is_what_the_stored_bits_can_hold(bits_stored, is_signed):
    pixel_format = PixelFormat(
        rows=1, columns=1, bits_allocated=16, bits_stored=bits_stored, is_signed=is_signed, is_inverted=False
    )
    assert pixel_format.largest - pixel_format.smallest + 1 == 2**bits_stored
    # NumPy's own types say the same where there is one.
    if bits_stored in (8, 16):
        info = np.iinfo(f"{'i' if is_signed else 'u'}{bits_stored // 8}")
        assert (pixel_format.smallest, pixel_format.largest) == (info.min, info.max)


def test_a_valid_format():
    assert read_pixel_format(dataset_of()) == PixelFormat(
        rows=3, columns=4, bits_allocated=16, bits_stored=12, is_signed=False, is_inverted=False
    )
    inverted = dataset_of(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", NumberOfFrames=1)
    assert read_pixel_format(inverted).is_inverted


@pytest.mark.parametrize(
    ("changes", "keyword"),
    [
        ({"FloatPixelData": b"0000"}, "FloatPixelData"),
        ({"PixelData": None}, "PixelData"),
        ({"PixelData": b""}, "PixelData"),
        ({"SamplesPerPixel": 3}, "SamplesPerPixel"),
        ({"PhotometricInterpretation": "RGB"}, "PhotometricInterpretation"),
        ({"NumberOfFrames": 2}, "NumberOfFrames"),
        ({"BitsAllocated": 12}, "BitsAllocated"),
        ({"BitsAllocated": 32}, "BitsAllocated"),
        ({"BitsStored": 17}, "BitsStored"),
        ({"BitsStored": 0}, "BitsStored"),
        ({"HighBit": 15}, "HighBit"),
        ({"PresentationLUTShape": "INVERSE"}, "PresentationLUTShape"),
        ({"Rows": 0}, "Rows"),
        ({"Columns": MAX_SIDE + 1}, "Columns"),
        ({"PixelRepresentation": 2}, "PixelRepresentation"),
        ({"Rows": None}, "Rows"),
    ],
)
def test_what_is_no_single_grey_frame(changes, keyword):
    with pytest.raises(DicomError, match=f"Expected {keyword} "):
        read_pixel_format(dataset_of(**changes))
