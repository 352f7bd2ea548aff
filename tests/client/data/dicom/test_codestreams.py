"""Frame headers by hand."""

import struct

import pytest

from client.data.dicom.codestreams import FrameHeader, jpeg_2000_header, jpeg_frame, rle_segments
from shared_model.errors import DicomError

START, FRAME = b"\xff\xd8", b"\xff\xc3" + struct.pack(">HBHHB3s", 11, 12, 90, 61, 1, b"\1\x11\0")
COMMENT = b"\xff\xfe" + struct.pack(">H", 6) + b"\xff\xc3\xff\xc3"
HEADER = FrameHeader(rows=90, columns=61, num_components=1, precision=12)


@pytest.mark.parametrize("between", [b"", COMMENT, b"\xff", b"\xff\xff\xff" + COMMENT, b"\xff\x01", b"\xff\xd0"])
def test_jpeg(between):
    assert jpeg_frame(START + between + FRAME).header == HEADER


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"", "Expected a frame header in the JPEG codestream"),
        (START, "Expected a frame header"),
        (b"\xff" * 50, "Expected a frame header"),
        (START + FRAME[:8], "Expected a frame header"),
        (b"image", "Expected a JPEG marker at byte 0"),
        (START + b"\0" + FRAME, "Expected a JPEG marker at byte 2"),
        (START + b"\xff\xfe\0\1" + FRAME, "Expected a JPEG marker segment at byte 4"),
    ],
)
def test_no_jpeg(frame, message):
    with pytest.raises(DicomError, match=message):
        jpeg_frame(frame)


@pytest.mark.parametrize("box", [b"", b"\0\0\0\x0cjP  \r\n\x87\n"])
def test_jpeg_2000(box):
    header = box + b"\xff\x4f\xff\x51" + struct.pack(">HH8IHB", 41, 0, 71, 100, 10, 10, 64, 64, 0, 0, 1, 11)
    assert jpeg_2000_header(header) == HEADER


@pytest.mark.parametrize("frame", [b"", b"\xff\x4f\xff\x51", bytes(60)])
def test_no_jpeg_2000(frame):
    with pytest.raises(DicomError, match="JPEG 2000 codestream"):
        jpeg_2000_header(frame)


def rle(*offsets, num_segments=None):
    count = len(offsets) if num_segments is None else num_segments
    return struct.pack("<16I", count, *offsets, *[0] * (15 - len(offsets))) + bytes(100)


def test_rle():
    assert rle_segments(rle(64)) == 1
    assert rle_segments(rle(64, 100)) == 2


@pytest.mark.parametrize(
    "frame",
    [
        rle(64)[:60],
        rle(64, num_segments=0),
        rle(64, num_segments=2**31),
        rle(10),
        rle(100, 64),
        rle(64, 64),
        rle(64, 5000),
    ],
)
def test_no_rle(frame):
    with pytest.raises(DicomError, match="Expected an RLE header"):
        rle_segments(frame)
