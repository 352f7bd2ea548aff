"""Mutated image files, and a process that reads them under limits: each is read, or refused in one line.

``python -m tests.mutated_images SEED COUNT FOLDER`` ends with status 0 if all went so. It may take 1 GiB of memory, and
20 seconds of processor time for each image; so may the children that decode for it.
"""

import contextlib
import io
import resource
import struct
import sys
import time
import zlib
from pathlib import Path

import cv2
import gdcm
import numpy as np
import openjpeg.utils
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

from client.data.images import read_image
from client.data.preprocessing import GreyImage
from shared_model.errors import DicomError

MAX_BYTES, MAX_SECONDS = 2**30, 20
RNG = np.random.default_rng(0)
WORDS = cv2.GaussianBlur(RNG.integers(0, 4096, (48, 40)).astype(np.uint16), (0, 0), 2)
BYTES = (WORDS >> 4).astype(np.uint8)
SIZES = (0, 1, 2, 255, 4095, 9999, 10_000, 20_000, 32_767, 65_535)
PNG_START = 8
ENCODED_HERE = (uid.RLELossless, uid.JPEGLSLossless, uid.JPEGLSNearLossless)


def dicom(pixels, syntax=uid.ExplicitVRLittleEndian, content=None):
    """Return the bytes of a mammogram; ``content`` is its compressed frame."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax if content is not None else uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = uid.SecondaryCaptureImageStorage, "1.2.3", "MG"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored = 12 if pixels.itemsize == 2 else 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.WindowCenter, dataset.WindowWidth, dataset.PixelPaddingValue = 1000, 2000, 0
    dataset.PatientOrientation, dataset.Laterality = ["A", "R"], "L"
    dataset.PixelData = pixels.tobytes() if content is None else encapsulate([content])
    dataset["PixelData"].VR = "OW" if content is None and pixels.itemsize == 2 else "OB"
    if content is None and syntax in ENCODED_HERE:
        near = {"jls_error": 2} if syntax == uid.JPEGLSNearLossless else {}
        dataset.compress(syntax, generate_instance_uid=False, **near)
    elif content is None:
        dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def jpeg_lossless(folder):
    """Return a file that GDCM has coded."""
    path = folder / "lossless.dcm"
    path.write_bytes(dicom(WORDS))
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.Write()
    return path.read_bytes()


def whole_images(folder):
    """Return files of every kind that can be read."""
    jpeg = cv2.imencode(".jpg", BYTES)[1].tobytes()
    progressive = cv2.imencode(".jpg", BYTES, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 4])[1]
    lossy = bytes(openjpeg.utils.encode_array(WORDS, compression_ratios=[4]))
    plain = dicom(WORDS, uid.ImplicitVRLittleEndian)
    return {
        "explicit": dicom(WORDS),
        "implicit": plain,
        "no header": plain[plain.index(b"\x08\0\x16\0") :],
        "RLE": dicom(WORDS, uid.RLELossless),
        "RLE of bytes": dicom(BYTES, uid.RLELossless),
        "JPEG-LS": dicom(WORDS, uid.JPEGLSLossless),
        "JPEG 2000": dicom(WORDS, uid.JPEG2000Lossless, bytes(openjpeg.utils.encode_array(WORDS))),
        "JPEG 2000 with loss": dicom(WORDS, uid.JPEG2000, lossy),
        "JPEG-LS with loss": dicom(WORDS, uid.JPEGLSNearLossless),
        "JPEG": dicom(BYTES, uid.JPEGBaseline8Bit, jpeg),
        "JPEG lossless": jpeg_lossless(folder),
        "JPEG file": jpeg,
        "JPEG file in scans": progressive.tobytes(),
        "PNG": cv2.imencode(".png", WORDS)[1].tobytes(),
        "PNG of bytes": cv2.imencode(".png", BYTES)[1].tobytes(),
    }


def mutate(content, rng, other):
    """Return ``content`` changed in one of many ways; ``other`` is another file."""
    change = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
    changed = bytearray(change(content, rng, int(rng.integers(len(content))), other))
    if content.startswith(b"\x89PNG") and rng.random() < 0.7:
        changed = with_checksums(changed)
    # Nothing is left to mutate of a file that was cut at its first byte.
    return bytes(changed) or b"\0"


def with_noise(content, rng, _where, _other):
    changed = bytearray(content)
    for position in rng.integers(0, len(changed), rng.integers(1, 9)):
        changed[position] = rng.integers(256)
    return changed


def cut(content, _rng, where, _other):
    return content[:where]


def without_a_piece(content, rng, where, _other):
    return content[:where] + content[where + int(rng.integers(1, 200)) :]


def with_a_piece_repeated(content, rng, where, _other):
    piece = content[where : where + int(rng.integers(1, 200))]
    return content[:where] + piece * int(rng.integers(1, 50)) + content[where:]


def with_an_extreme(content, rng, where, _other):
    extreme = EXTREMES[int(rng.integers(len(EXTREMES)))]
    return content[:where] + extreme + content[where + 4 :]


def spliced(content, _rng, where, other):
    return content[:where] + other[where:]


def resized(content, rng, _where, _other):
    """Claim another size, in the file's attributes and in the codestream alike, so that they agree."""
    sizes = [int(size) for size in rng.choice(SIZES, 2)]
    for order in ("<", ">"):
        for old, new in zip(WORDS.shape, sizes, strict=True):
            content = content.replace(struct.pack(f"{order}H", old), struct.pack(f"{order}H", new))
    return content


MUTATIONS = (with_noise, cut, without_a_piece, with_a_piece_repeated, with_an_extreme, spliced, resized)
EXTREMES = (b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\xff\xd8\xff\xd9")


def with_checksums(content):
    """Return a PNG file whose chunks are believed."""
    whole, position = bytearray(content), PNG_START
    while position + 12 <= len(whole):
        end = position + 8 + int.from_bytes(whole[position : position + 4], "big")
        if end + 4 > len(whole):
            break
        whole[end : end + 4] = zlib.crc32(whole[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return whole


def read_or_refuse(path):
    """Read an image and return whether it was accepted.

    Raises:
        AssertionError: it is neither read nor refused in one line that names it.
    """
    try:
        grey = read_image(path)
    except DicomError as error:
        text = str(error)
        assert text.startswith(str(path)), text
        assert "\n" not in text, text
        assert len(text) < 1000, text
        return False
    assert isinstance(grey, GreyImage)
    assert np.isfinite(grey.pixels).all()
    return True


def main(seed, count, folder):
    """Read ``count`` mutated images."""
    whole = whole_images(folder)
    for name, content in whole.items():
        path = folder / "whole"
        path.write_bytes(content)
        assert read_or_refuse(path), name
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    rng, names, num_accepted = np.random.default_rng(seed), sorted(whole), 0
    for number in range(count):
        name = names[number % len(names)]
        content = whole[name]
        for _ in range(rng.integers(1, 4)):
            content = mutate(content, rng, whole[names[int(rng.integers(len(names)))]])
        path = folder / "mutated"
        path.write_bytes(content)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + MAX_SECONDS, resource.RLIM_INFINITY))
        try:
            num_accepted += read_or_refuse(path)
        except BaseException:
            with contextlib.suppress(OSError):
                (folder / "failed").write_bytes(content)
            print(f"image {number} of seed {seed}, from {name}", file=sys.stderr)  # noqa: T201
            raise
    print(f"{count} read or refused, {num_accepted} accepted")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
