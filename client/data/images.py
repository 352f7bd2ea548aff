"""One lesion's files -> network input."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from client.data import jpeg, png
from client.data.dicom import reader
from client.data.image_files import open_image, unreadable
from client.data.preprocessing import (
    BoolArray,
    Box,
    Float32Array,
    GreyImage,
    is_mask,
    mask_box,
    preprocess,
    resize,
    square_crop,
    turned_left,
)
from shared_model.config.choices import ImageMode
from shared_model.config.site_sections import ImageConfig
from shared_model.errors import DicomError
from shared_model.vocabulary import Laterality, View

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
    return prepare_lesion(path, grey, files, image)


def prepare_lesion(path: Path, grey: GreyImage, files: LesionFiles, image: ImageConfig) -> Float32Array:
    """Preprocess a picture that was read already: crop or film, as ``image.mode`` asks; otherwise as ``load_lesion``.

    Raises:
        DicomError: the lesion does not lie on the film, or a file and the table name different breasts or views.
    """
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
    laterality = _agreed_laterality(files.laterality, film, path)
    marked = np.zeros(film.pixels.shape, dtype=np.float32)
    marked[box.y : box.y + box.height, box.x : box.x + box.width] = 1
    film = dataclasses.replace(film, pixels=marked)
    if image.face_left:
        film, box = turned_left(film, box, laterality)
    shown = square_crop(film.pixels, box, image.context) if image.mode is ImageMode.ROI else film.pixels
    return resize(shown, image.size) >= 0.5


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
        with open_image(path) as file:
            start = file.read(len(png.SIGNATURE))
            if start == png.SIGNATURE:
                return png.read_png(path, start + file.read())
            if start.startswith(jpeg.SIGNATURE):
                return jpeg.read_jpeg(path, start + file.read())
    except OSError as error:
        raise unreadable(path, error) from error
    return reader.read_dicom(path)


def num_pixels(files: LesionFiles, mode: ImageMode) -> int:
    """Return how many pixels ``load_lesion`` will hold, as its files' headers say; 0 for unreadable ones."""
    return sum(_num_pixels(path) for path in image_paths_used(files, mode))


def _num_pixels(path: Path) -> int:
    try:
        with open_image(path) as file:
            start = file.read(24)
            if start.startswith(png.SIGNATURE):
                return png.num_pixels(start)
            if start.startswith(jpeg.SIGNATURE):
                return jpeg.num_pixels(start + file.read())
        return reader.num_pixels(path)
    except (DicomError, OSError):
        return 0


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
    # What of it lies on the film.
    return dataclasses.replace(box, width=min(box.width, width - box.x), height=min(box.height, height - box.y))


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
    found = grey.view or grey.other_view
    if expected is not None and found not in (None, expected):
        raise DicomError(f"{path}: Expected view={found} == {expected} of the table.")


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths) or "no files"
