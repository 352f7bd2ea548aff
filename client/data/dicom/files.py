"""A DICOM file to its data set, with or without the header of PS3.10."""

from io import BytesIO
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom import uid as transfer_syntax
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset as read_elements
from pydicom.tag import BaseTag

from client.data.dicom.attributes import expect
from client.data.dicom.decoding import READABLE_SYNTAXES
from shared_model.errors import DicomError

_PREAMBLE = bytes(128) + b"DICM"
_META_GROUP, _FIRST_GROUP = b"\2\0", (b"\10\0", b"\0\10")
"""First bytes of a file that lost its preamble, and of one that lost its whole header."""


def read_dataset(file: BinaryIO, *, with_pixels: bool = True) -> Dataset:
    """Read a file that begins as PS3.10 7.1 says, or that was written without preamble or without any header.

    Without header it is uncompressed, implicit or explicit VR, told by its first element.

    Raises:
        DicomError: its pixel data are coded in a way that is not read here.
        ValueError and others of pydicom: it is no DICOM file, or is damaged.
    """
    start = file.read(len(_PREAMBLE))
    file.seek(0)
    if not start.endswith(_PREAMBLE[128:]):
        if start.startswith(_FIRST_GROUP):
            return _read_without_header(file, with_pixels=with_pixels)
        if not start.startswith(_META_GROUP):
            raise DicomError("Expected a DICOM image, got a file that does not begin as one; is it of another kind?")
        file = BytesIO(_PREAMBLE + file.read())
    # Before the rest is read: a deflated data set would be inflated without bound.
    file.seek(len(_PREAMBLE))
    meta = read_elements(file, is_implicit_VR=False, is_little_endian=True, stop_when=_is_beyond_meta)
    expect(
        meta.get("TransferSyntaxUID") in READABLE_SYNTAXES,
        meta,
        "TransferSyntaxUID",
        "to be uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000; export the file again as one of them",
    )
    file.seek(0)
    return dcmread(file, stop_before_pixels=not with_pixels)


def _is_beyond_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != 2


def _read_without_header(file: BinaryIO, *, with_pixels: bool) -> Dataset:
    dataset = dcmread(file, stop_before_pixels=not with_pixels, force=True)
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise DicomError("Expected a file without header to be uncompressed; export it again with its header.")
    is_implicit, is_little_endian = dataset.original_encoding
    dataset.file_meta = FileMetaDataset()
    if is_implicit:
        dataset.file_meta.TransferSyntaxUID = transfer_syntax.ImplicitVRLittleEndian
    elif is_little_endian:
        dataset.file_meta.TransferSyntaxUID = transfer_syntax.ExplicitVRLittleEndian
    else:
        dataset.file_meta.TransferSyntaxUID = transfer_syntax.ExplicitVRBigEndian
    return dataset
