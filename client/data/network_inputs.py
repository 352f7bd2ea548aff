"""Images of a lesion table -> network input, from the cache or computed and added to it.

The input of a frozen backbone's head is the backbone's features, so that each image passes through it once and never
again; otherwise it is the preprocessed pixels.
"""

import dataclasses
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from client.data.dicom.decoder_pool import stop_decoders
from client.data.file_digests import FileDigests
from client.data.grey_levels import FAINT, is_faint
from client.data.image_cache import FloatArray, ImageCache, cached_settings, keep_only
from client.data.image_files import MAX_PIXELS
from client.data.images import LesionFiles, image_paths_used, load_lesion, num_pixels
from client.data.pixel_budget import PixelBudget
from client.data.preprocessing import Box
from client.data.tables.cells import BOX_COLUMNS
from client.data.tables.site_table import data_folder
from shared_model.config.choices import FeatureEngine, ImageMode, Modality, Normalisation
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import DicomError
from shared_model.network.backbone import frozen_features
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.feature_engines import prepare_engine
from shared_model.vocabulary import Laterality, View

logger = logging.getLogger(__name__)

_SHARD_ROWS = 64
_DIGESTED_ROWS = 4096
_DIGESTS, _IMAGES = "digests.json", "images"
Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of all."""


class NetworkInputs(NamedTuple):
    """The input of ``N`` lesions."""

    images: FloatArray
    """``(N, ...)``, zero where a lesion has no image."""
    has_image: npt.NDArray[np.bool_]
    """``(N,)``."""
    problems: Mapping[int, str]
    """By row: why the images that the table names cannot be used; those rows are zero too."""


def load_network_inputs(
    frame: pd.DataFrame, config: ExperimentConfig, report: Progress, *, max_cache_bytes: float | None = None
) -> NetworkInputs:
    """Return the network input of every row of a lesion table's ``frame``.

    What the cache under ``config.data.cache_dir`` lacks is computed and added, shard by shard, so that an interrupted
    call continues where it stopped. The cache keeps within ``max_cache_bytes``; see ``ImageCache``.
    """
    images = np.zeros((len(frame), *_input_shape(config)), dtype=np.float32)
    if config.model.modality is Modality.CLINICAL:
        return NetworkInputs(images, np.zeros(len(frame), dtype=bool), {})
    store = _InputStore(config, max_cache_bytes)
    keys, problems = store.fill(lesion_files(frame, config), report)
    for row, key in enumerate(keys):
        if key is not None:
            images[row] = store.cache.get(key)
    return NetworkInputs(images, np.array([key is not None for key in keys], dtype=bool), problems)


def purge_network_inputs(frame: pd.DataFrame, config: ExperimentConfig) -> int:
    """Erase from the cache, for all settings, what no row of ``frame`` needs; return how many inputs were erased.

    So nothing of a patient who is no longer in the table stays on disk, whether or not her files are still there.

    Raises:
        OSError: a file of the cache cannot be written or erased.
    """
    folder, files = Path(config.data.cache_dir), lesion_files(frame, config)
    digests, needed, num_erased = FileDigests(folder / _DIGESTS), set[Path](), 0
    for cache, settings in cached_settings(folder / _IMAGES).items():
        mode = _mode_of(settings)
        keys = set[str]()
        if mode is not None:
            needed |= {path for lesion in files for path in image_paths_used(lesion, mode)}
            keys = _keys_of_readable(files, mode, digests)
        num_erased += keep_only(cache, keys)
    digests.keep_only(needed)
    digests.save()
    return num_erased


def _keys_of_readable(files: list[LesionFiles], mode: ImageMode, digests: FileDigests) -> set[str]:
    keys = set[str]()
    for lesion in files:
        with suppress(DicomError, OSError):
            keys |= {_input_key(lesion, mode, digests) or ""}
    return keys


def _mode_of(settings: Mapping[str, object]) -> ImageMode | None:
    """Return the image mode of a cache's settings; None where they are damaged."""
    image = settings.get("image")
    mode = image.get("mode") if isinstance(image, dict) else None
    return ImageMode(mode) if mode in set(ImageMode) else None


def lesion_files(frame: pd.DataFrame, config: ExperimentConfig) -> list[LesionFiles]:
    """Return the files of every row of a lesion table."""
    root = data_folder(config.data)
    columns = [frame[name].to_list() for name in ("lesion_paths", "film_path", "laterality", "view")]
    boxes = zip(*(frame[name].to_list() for name in BOX_COLUMNS), strict=True)
    return [
        LesionFiles(
            lesion_paths=tuple(root / path for path in paths),
            film_path=None if pd.isna(film) else root / film,
            box=None if pd.isna(box[0]) else Box(x=box[0], y=box[1], width=box[2], height=box[3]),
            laterality=None if pd.isna(laterality) else Laterality(laterality),
            view=None if pd.isna(view) else View(view),
        )
        for paths, film, laterality, view, box in zip(*columns, boxes, strict=True)
    ]


def _input_shape(config: ExperimentConfig) -> tuple[int, ...]:
    if config.model.modality is Modality.CLINICAL:
        return (0,)
    if config.model.backbone.is_frozen:
        return (FEATURE_WIDTH,)
    return (1, config.data.image.size, config.data.image.size)


class _InputStore:
    """The cache of one configuration, and the computation that fills it."""

    def __init__(self, config: ExperimentConfig, max_bytes: float | None) -> None:
        folder = Path(config.data.cache_dir)
        self._config = config
        self._digests = FileDigests(folder / _DIGESTS)
        self._budget = PixelBudget(MAX_PIXELS)
        self._faint: list[LesionFiles] = []
        self.cache = ImageCache(folder / _IMAGES, _cache_settings(config), max_bytes=max_bytes)

    def fill(self, files: list[LesionFiles], report: Progress) -> tuple[list[str | None], dict[int, str]]:
        """Compute what is missing; return the key of every row, None without image, and the problems by row."""
        with _decoding_threads() as pool:
            return self._fill(files, report, pool)

    def _fill(
        self, files: list[LesionFiles], report: Progress, pool: ThreadPoolExecutor
    ) -> tuple[list[str | None], dict[int, str]]:
        keys, problems = self._keys(files, report, pool)
        missing = {key: row for row, key in enumerate(keys) if key is not None and key not in self.cache}
        is_missing = set(missing)
        if missing:
            prepare_engine(self._config.model, self._config.data.image.size)
        num_done = sum(key not in is_missing for key in keys)
        report(num_done, len(files))
        broken: dict[str, str] = {}
        remaining = iter(missing.items())
        while shard := list(itertools.islice(remaining, _SHARD_ROWS)):
            arrays = list(pool.map(self._compute, [files[row] for _, row in shard]))
            results = dict(zip([key for key, _ in shard], arrays, strict=True))
            self._put({key: array for key, array in results.items() if not isinstance(array, DicomError)})
            broken |= {key: str(error) for key, error in results.items() if isinstance(error, DicomError)}
            num_done += len(shard)
            report(num_done, len(files))
        problems |= {
            row: self._naming_own_files(broken[key], computed=files[missing[key]], own=files[row])
            for row, key in enumerate(keys)
            if key in broken
        }
        self._warn_of_faint(len(missing))
        return [None if row in problems else key for row, key in enumerate(keys)], problems

    def _keys(
        self, files: list[LesionFiles], report: Progress, pool: ThreadPoolExecutor
    ) -> tuple[list[str | None], dict[int, str]]:
        """Return the cache key of every row, None without image, and the rows whose files cannot be read."""
        found: list[str | DicomError | None] = []
        while len(found) < len(files):
            if found:
                report(0, len(files))
            starts = range(len(found), min(len(found) + _DIGESTED_ROWS, len(files)), _SHARD_ROWS)
            parts = [files[start : start + _SHARD_ROWS] for start in starts]
            found += itertools.chain.from_iterable(pool.map(lambda part: [self._key(lesion) for lesion in part], parts))
            # So that a call that is cut short need not read every file again.
            self._save_digests()
        problems = {row: str(key) for row, key in enumerate(found) if isinstance(key, DicomError)}
        return [None if isinstance(key, DicomError) else key for key in found], problems

    def _key(self, lesion: LesionFiles) -> str | DicomError | None:
        try:
            return _input_key(lesion, self._config.data.image.mode, self._digests)
        except OSError as error:
            return DicomError(f"image cannot be read: {error.strerror}")
        except DicomError as error:
            return error

    def _naming_own_files(self, problem: str, *, computed: LesionFiles, own: LesionFiles) -> str:
        """Return the problem of a lesion's files as that of another lesion whose files have the same content."""
        mode = self._config.data.image.mode
        for path, own_path in zip(image_paths_used(computed, mode), image_paths_used(own, mode), strict=True):
            problem = problem.replace(str(path), str(own_path))
        return problem

    def _compute(self, lesion: LesionFiles) -> FloatArray | DicomError:
        image = self._config.data.image
        try:
            with self._budget.taking(num_pixels(lesion, image.mode)):
                pixels = load_lesion(lesion, image)[None]
        except DicomError as error:
            return error
        except Exception as error:
            logger.exception("An image failed")
            return DicomError(f"image cannot be used: {type(error).__name__}")
        if image.normalisation is Normalisation.FULL_RANGE and is_faint(pixels):
            self._faint.append(lesion)
        if not self._config.model.backbone.is_frozen:
            return pixels
        model = self._config.model
        features = frozen_features(torch.from_numpy(pixels[None]), model.backbone, model.feature_engine)
        return np.asarray(features[0].numpy())

    def _warn_of_faint(self, num_images: int) -> None:
        if self._faint:
            first = min(str(path) for path in image_paths_used(self._faint[0], self._config.data.image.mode))
            logger.warning("%d of %d images %s; the first: %s", len(self._faint), num_images, FAINT, first)

    def _put(self, arrays: Mapping[str, FloatArray]) -> None:
        if arrays:
            self.cache.put(list(arrays), np.stack(list(arrays.values())))

    def _save_digests(self) -> None:
        try:
            self._digests.save()
        except OSError as error:
            logger.warning("The digests of images cannot be written: %s", error)


@contextmanager
def _decoding_threads() -> Iterator[ThreadPoolExecutor]:
    """Yield as many threads as this process may use cores; none of them starts threads of its own."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(num_cores) as pool:
            yield pool
    finally:
        stop_decoders()


def _input_key(lesion: LesionFiles, mode: ImageMode, digests: FileDigests) -> str | None:
    """Return a digest of the files' content and of what else of the row decides the result; None without files.

    Raises:
        OSError: a file cannot be read.
        DicomError: one is no regular file, or has a size that no image has.
    """
    paths = image_paths_used(lesion, mode)
    if not paths:
        return None
    parts = [*(digests.digest(path) for path in paths), repr(lesion.box), repr(lesion.laterality), repr(lesion.view)]
    if mode is ImageMode.ROI and lesion.film_path is None:
        # Else a mask of this lesion could pass for the film of another.
        parts.append("no film")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _cache_settings(config: ExperimentConfig) -> dict[str, object]:
    backbone, engine = config.model.backbone, config.model.feature_engine
    encoder = f"{backbone} features" if backbone.is_frozen else "pixels"
    if backbone.is_frozen and engine is not FeatureEngine.TORCH:
        # Features of two engines never mix; torch's keep the name that they had before there were others.
        encoder += f" by {engine}"
    return {"image": dataclasses.asdict(config.data.image), "encoder": encoder}
