"""Images of a lesion table -> network input, from the cache or computed and added to it.

The input of a frozen backbone's head is the backbone's features, so that each image passes through it once and never
again; otherwise it is the preprocessed pixels.
"""

import dataclasses
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from client.data.image_cache import FileDigests, FloatArray, ImageCache, cached_settings, keep_only
from client.data.images import LesionFiles, image_paths_used, load_lesion
from client.data.preprocessing import Box
from client.data.tables.cells import BOX_COLUMNS
from client.data.tables.site_table import data_folder
from shared_model.config.choices import ImageMode, Modality
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import DicomError
from shared_model.network.backbone import frozen_features
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.vocabulary import Laterality, View

logger = logging.getLogger(__name__)

_SHARD_ROWS = 64
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
        with suppress(OSError):
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
        self.cache = ImageCache(folder / _IMAGES, _cache_settings(config), max_bytes=max_bytes)

    def fill(self, files: list[LesionFiles], report: Progress) -> tuple[list[str | None], dict[int, str]]:
        """Compute what is missing; return the key of every row, None without image, and the problems by row."""
        keys, problems = self._keys(files)
        # At once, so that a call that is cut short below need not read every file again.
        self._save_digests()
        missing = {key: row for row, key in enumerate(keys) if key is not None and key not in self.cache}
        is_missing = set(missing)
        num_done = sum(key not in is_missing for key in keys)
        report(num_done, len(files))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            remaining = iter(missing.items())
            while shard := list(itertools.islice(remaining, _SHARD_ROWS)):
                arrays = list(pool.map(self._compute, [files[row] for _, row in shard]))
                results = dict(zip([key for key, _ in shard], arrays, strict=True))
                self._put({key: array for key, array in results.items() if not isinstance(array, DicomError)})
                broken = {key: str(error) for key, error in results.items() if isinstance(error, DicomError)}
                problems |= {
                    row: self._naming_own_files(broken[key], computed=files[missing[key]], own=files[row])
                    for row, key in enumerate(keys)
                    if key in broken
                }
                num_done += len(shard)
                report(num_done, len(files))
        return [None if row in problems else key for row, key in enumerate(keys)], problems

    def _keys(self, files: list[LesionFiles]) -> tuple[list[str | None], dict[int, str]]:
        """Return the cache key of every row, None without image, and the rows whose files cannot be read."""
        keys: list[str | None] = []
        problems: dict[int, str] = {}
        for row, lesion in enumerate(files):
            try:
                keys.append(_input_key(lesion, self._config.data.image.mode, self._digests))
            except OSError as error:
                keys.append(None)
                problems[row] = f"image cannot be read: {error.strerror}"
        return keys, problems

    def _naming_own_files(self, problem: str, *, computed: LesionFiles, own: LesionFiles) -> str:
        """Return the problem of a lesion's files as that of another lesion whose files have the same content."""
        mode = self._config.data.image.mode
        for path, own_path in zip(image_paths_used(computed, mode), image_paths_used(own, mode), strict=True):
            problem = problem.replace(str(path), str(own_path))
        return problem

    def _compute(self, lesion: LesionFiles) -> FloatArray | DicomError:
        try:
            pixels = load_lesion(lesion, self._config.data.image)[None]
        except DicomError as error:
            return error
        except Exception as error:
            logger.exception("An image failed")
            return DicomError(f"image cannot be used: {type(error).__name__}")
        if not self._config.model.backbone.is_frozen:
            return pixels
        return np.asarray(frozen_features(torch.from_numpy(pixels[None]), self._config.model.backbone)[0].numpy())

    def _put(self, arrays: Mapping[str, FloatArray]) -> None:
        if arrays:
            self.cache.put(list(arrays), np.stack(list(arrays.values())))

    def _save_digests(self) -> None:
        try:
            self._digests.save()
        except OSError as error:
            logger.warning("The digests of images cannot be written: %s", error)


def _input_key(lesion: LesionFiles, mode: ImageMode, digests: FileDigests) -> str | None:
    """Return a digest of the files' content and of what else of the row decides the result; None without files.

    Raises:
        OSError: a file cannot be read.
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
    backbone = config.model.backbone
    encoder = f"{backbone} features" if backbone.is_frozen else "pixels"
    return {"image": dataclasses.asdict(config.data.image), "encoder": encoder}
