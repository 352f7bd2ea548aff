"""One lesion's files -> network input."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from client.data import jpeg
from client.data.dicom.decoding import MAX_SIDE
from client.data.dicom.reader import MAX_FILE_BYTES, read_dicom
from client.data.preprocessing import (
    BoolArray,
    Box,
    Float32Array,
    GreyImage,
    face_left,
    is_mask,
    mask_box,
    preprocess,
    resize,
    square_crop,
)
from shared_model.config.choices import ImageMode
from shared_model.config.site_sections import ImageConfig
from shared_model.errors import DicomError
from shared_model.vocabulary import Laterality, View

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_GREY = 0
_MAX_STRETCH = 1.25
"""A mask whose sides must be stretched more unequally than this was not drawn on this film."""


@dataclass(frozen=True, kw_only=True)
class LesionFiles:
    """Where one lesion's images stand, and what its table row says about them."""

    lesion_paths: tuple[Path, ...]
    """Crop and mask, in any order: CBIS-DDSM swaps them between ``1-1.dcm`` and ``1-2.dcm``."""
    film_path: Path | None
    box: Box | None
    """The lesion on the film, for films without a mask."""
    laterality: Laterality | None
    view: View | None = None


def load_lesion(files: LesionFiles, image: ImageConfig) -> Float32Array:
    """Read and preprocess what ``image.mode`` shows of a lesion.

    ``crop`` takes the one image among ``lesion_paths`` that is no mask, by content; ``roi`` cuts the film round the
    mask among ``lesion_paths`` or, where there is none, round ``box``; ``film`` takes the whole film.

    Returns:
        ``(image.size, image.size)`` float32 in [0, 1].

    Raises:
        DicomError: a file is missing or unreadable, crop and mask cannot be told apart, the lesion does not lie on
            the film, or a file and the table name different breasts or views.
    """
    if image.mode is ImageMode.CROP:
        path, grey = _crop(files.lesion_paths)
    else:
        path, grey = _film(files)
    box = _box(files, grey) if image.mode is ImageMode.ROI else None
    laterality = _agreed_laterality(files.laterality, grey, path)
    _require_view(files.view, grey, path)
    return preprocess(grey, image, laterality=laterality, box=box)


def load_lesion_mask(files: LesionFiles, image: ImageConfig) -> BoolArray | None:
    """Return where in the network's input the lesion's box lies.

    Returns:
        ``(image.size, image.size)``, bool; None for a crop, whose place on the film is not known.

    Raises:
        DicomError: as ``load_lesion``, or the lesion has neither mask nor box.
    """
    if image.mode is ImageMode.CROP:
        return None
    path, film = _film(files)
    box = _box(files, film)
    marked = np.zeros(film.pixels.shape, dtype=np.float32)
    marked[box.y : box.y + box.height, box.x : box.x + box.width] = 1
    if image.mode is ImageMode.ROI:
        marked = square_crop(marked, box, image.context)
    scaled = resize(marked, image.size)
    laterality = _agreed_laterality(files.laterality, film, path)
    facing = face_left(scaled, laterality) if image.face_left else scaled
    return facing >= 0.5


def image_paths_used(files: LesionFiles, mode: ImageMode) -> tuple[Path, ...]:
    """Return the files that ``load_lesion`` may read; they and the rest of ``files`` fix its result."""
    film = () if files.film_path is None else (files.film_path,)
    if mode is ImageMode.CROP:
        return files.lesion_paths
    return (*film, *files.lesion_paths) if mode is ImageMode.ROI else film


def read_image(path: Path) -> GreyImage:
    """Read a DICOM file, a grey PNG file of 8 or 16 bits, or a grey JPEG file, told apart by content.

    Raises:
        DicomError: it is none of them, or damaged.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_PNG_SIGNATURE))
    except OSError as error:
        raise DicomError(f"{path}: Expected a readable file: {error.strerror}.") from error
    if start.startswith(jpeg.SIGNATURE):
        return jpeg.read_jpeg(path)
    return _read_png(path) if start == _PNG_SIGNATURE else read_dicom(path)


def _crop(paths: Sequence[Path]) -> tuple[Path, GreyImage]:
    images = [(path, read_image(path)) for path in paths]
    candidates = [(path, grey) for path, grey in images if not is_mask(grey.pixels)]
    if len(candidates) > 1:
        candidates = [(path, grey) for path, grey in candidates if "crop" in grey.series_description.lower()]
    if len(candidates) != 1:
        raise DicomError(f"Expected one crop among {_names(paths)}, found {len(candidates)}.")
    return candidates[0]


def _film(files: LesionFiles) -> tuple[Path, GreyImage]:
    if files.film_path is None:
        raise DicomError(f"Expected a film for the lesion of {_names(files.lesion_paths)}.")
    grey = read_image(files.film_path)
    if is_mask(grey.pixels):
        raise DicomError(f"{files.film_path}: Expected a film, found a mask.")
    return files.film_path, grey


def _box(files: LesionFiles, film: GreyImage) -> Box:
    masks = [(path, grey) for path in files.lesion_paths if is_mask((grey := read_image(path)).pixels)]
    if len(masks) > 1:
        raise DicomError(f"Expected one mask among {_names(files.lesion_paths)}, found {len(masks)}.")
    height, width = film.pixels.shape
    if masks:
        path, mask = masks[0]
        return mask_box(_fit_mask(path, mask.pixels, (height, width)))
    if files.box is None:
        raise DicomError(f"{files.film_path}: Expected a mask or a box for roi mode.")
    box = files.box
    if box.x >= width or box.y >= height or box.width > width or box.height > height:
        raise DicomError(f"{files.film_path}: Expected {box} on the film of {width} x {height} pixels.")
    return box


def _fit_mask(path: Path, mask: Float32Array, shape: tuple[int, int]) -> Float32Array:
    """Rescale a mask to the film's ``shape`` by nearest neighbour; some masks of CBIS-DDSM have another size."""
    if mask.shape == shape:
        return mask
    vertical, horizontal = shape[0] / mask.shape[0], shape[1] / mask.shape[1]
    if max(vertical, horizontal) > _MAX_STRETCH * min(vertical, horizontal):
        raise DicomError(f"{path}: Expected a mask in the proportions of its film {shape}, got {mask.shape}.")
    fitted = cv2.resize(mask, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    if not fitted.any():
        raise DicomError(f"{path}: Expected a mask that still marks a pixel at the film's size {shape}.")
    return np.asarray(fitted, dtype=np.float32)


def _agreed_laterality(expected: Laterality | None, grey: GreyImage, path: Path) -> Laterality | None:
    if expected is not None and grey.laterality not in (None, expected):
        raise DicomError(f"{path}: Expected laterality={grey.laterality} == {expected} of the table.")
    return expected or grey.laterality


def _require_view(expected: View | None, grey: GreyImage, path: Path) -> None:
    if expected is not None and grey.view not in (None, expected):
        raise DicomError(f"{path}: Expected view={grey.view} == {expected} of the table.")


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths) or "no files"


def _read_png(path: Path) -> GreyImage:
    """Read a grey PNG file; ``value_range`` is that of its bit depth."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DicomError(f"{path}: Expected file size={path.stat().st_size} <= {MAX_FILE_BYTES} bytes.")
    content = path.read_bytes()
    width, height, bit_depth, colour_type = _png_header(content, path)
    if colour_type != _PNG_GREY or bit_depth not in (8, 16):
        raise DicomError(f"{path}: Expected colour_type={colour_type}, bit_depth={bit_depth} to be grey, 8 or 16 bit.")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise DicomError(f"{path}: Expected width={width} and height={height} in [1, {MAX_SIDE}].")
    decoded = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.shape != (height, width):
        raise DicomError(f"{path}: Expected a PNG file whose image data can be decoded.")
    return GreyImage(
        pixels=decoded.astype(np.float32),
        value_range=(0.0, float(2**bit_depth - 1)),
        padding=np.zeros(decoded.shape, dtype=bool),
    )


def _png_header(content: bytes, path: Path) -> tuple[int, int, int, int]:
    """Check every chunk (PNG 3rd ed., 5.3) and return width, height, bit depth and colour type (11.2.1).

    OpenCV expands other depths and colours silently, and what it makes of a cut file depends on its version.
    """
    chunks: list[bytes] = []
    position = len(_PNG_SIGNATURE)
    while chunks[-1:] != [b"IEND"]:
        length = int.from_bytes(content[position : position + 4], "big")
        body = content[position + 4 : position + 8 + length]
        checksum = content[position + 8 + length : position + 12 + length]
        if len(body) != length + 4 or checksum != zlib.crc32(body).to_bytes(4, "big"):
            raise DicomError(f"{path}: Expected a complete PNG chunk at byte {position}.")
        chunks.append(body[:4])
        position += 12 + length
    if chunks[0] != b"IHDR" or len(content) < 33:
        raise DicomError(f"{path}: Expected a PNG file to start with its header.")
    width, height, bit_depth, colour_type = struct.unpack_from(">IIBB", content, 16)
    return width, height, bit_depth, colour_type
