"""A site's table and images -> tensors: join, roles by patient, cached images."""

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from client.data.cbis_ddsm import read_cbis_ddsm
from client.data.image_cache import FileDigests, FloatArray, ImageCache
from client.data.images import LesionFiles, image_paths_used, load_lesion
from client.data.lesion_table import BOX_COLUMNS, REJECT_COLUMNS, LesionTable, encode_clinical, read_csv
from client.data.manifest import read_manifest
from client.data.splits import Role, assign_roles
from client.data.view_average import average_views
from shared_model.config.choices import DataSource, Modality, Views
from shared_model.config.experiment import DataConfig, ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.data.preprocessing import Box
from shared_model.errors import CohortError, ConfigError, DicomError, TableError
from shared_model.network.backbone import frozen_features
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.vocabulary import Laterality

_SHARD_ROWS = 64
Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of all."""


def _no_progress(_done: int, _total: int) -> None:
    """Show nothing."""


def read_table(config: ExperimentConfig) -> LesionTable:
    """Read the tables under ``config.data.root`` and find the image files.

    Raises:
        ConfigError: the data folder or manifest does not exist.
        TableError: a table is missing, malformed or lacks a column.
    """
    data, root = config.data, Path(config.data.root)
    if not root.exists():
        raise ConfigError(f"Expected data.root={data.root} to exist.")
    needs_image = config.model.modality is not Modality.CLINICAL
    if data.source is DataSource.MANIFEST:
        return read_manifest(root, needs_image=needs_image)
    return read_cbis_ddsm(root, lesion_types=data.lesion_types, needs_image=needs_image)


def read_roster(data: DataConfig) -> dict[str, str] | None:
    """Return the site of every patient, or None where all patients are the site's own.

    Raises:
        TableError: the roster cannot be read, lacks a column, or names two sites for a patient.
    """
    if data.roster is None:
        return None
    root = Path(data.root)
    path = (root if root.is_dir() else root.parent) / data.roster
    table = read_csv(path)
    table.require(["patient_id"])
    column = next((name for name in ("site", "institution") if name in table.columns), None)
    if column is None:
        raise TableError(f"Expected a column site or institution in {path}.")
    roster: dict[str, str] = {}
    for cells in table.rows:
        patient, site = cells["patient_id"].strip(), cells[column].strip()
        if roster.setdefault(patient, site) != site:
            raise TableError(f"Expected one site for every patient in {path}, got two for one patient.")
    return roster


def restrict(table: LesionTable, patients: Collection[str]) -> LesionTable:
    """Return the part of the table, rejects and exclusions that concerns ``patients``."""
    parts = {
        name: getattr(table, name)[getattr(table, name)["patient_id"].isin(list(patients))].reset_index(drop=True)
        for name in ("frame", "rejects", "excluded")
    }
    return LesionTable(**parts)


def site_table(config: ExperimentConfig, site: str | None) -> LesionTable:
    """Read the table and keep the patients of ``site``; None keeps those of every site of the federation.

    Raises:
        CohortError: the site has no patient.
        ConfigError, TableError: as ``read_table`` and ``read_roster``.
    """
    table, roster = read_table(config), read_roster(config.data)
    if roster is None:
        return table
    sites = config.federation.sites if site is None else (site,)
    table = restrict(table, {patient for patient, owner in roster.items() if owner in sites})
    if table.frame.empty and table.rejects.empty:
        raise CohortError(f"Expected patients of site {', '.join(sites)} in the roster {config.data.roster}, got none.")
    return table


def assign_table_roles(frame: pd.DataFrame, config: ExperimentConfig) -> "pd.Series[str]":
    """Return the role of every patient of ``frame``, as ``config`` deals them; see ``assign_roles``."""
    data = config.data
    return assign_roles(
        frame, public_fraction=data.public_fraction, validation_fraction=data.validation_fraction, seed=config.seed
    )


def load_lesions(
    table: LesionTable, config: ExperimentConfig, *, report: Progress = _no_progress
) -> tuple[dict[Role, Lesions], LesionTable]:
    """Turn the table into tensors by role; rows whose image cannot be read move to the rejects.

    Returns:
        Lesions by role (every role is present, possibly empty), and the table with its rejects completed.
    """
    lesions, table = load_all_lesions(table, config, report=report)
    role_of_row = table.frame["patient_id"].map(assign_table_roles(table.frame, config))
    by_role = {role: lesions.select(torch.from_numpy((role_of_row == role).to_numpy(dtype=bool))) for role in Role}
    return by_role, table


def load_all_lesions(
    table: LesionTable, config: ExperimentConfig, *, report: Progress = _no_progress
) -> tuple[Lesions, LesionTable]:
    """Turn the table into tensors; rows whose image cannot be read move to the rejects.

    Images come from the cache under ``config.data.cache_dir``; what is missing there is computed and added, shard by
    shard, so that an interrupted call continues where it stopped.

    Returns:
        The lesions in the order of the returned table, whose rejects are complete.
    """
    images, has_image, table = _load_images(table, config, report)
    frame = table.frame
    lesions = Lesions(
        images=torch.from_numpy(images),
        has_image=torch.from_numpy(has_image),
        clinical=torch.from_numpy(encode_clinical(frame, config.data.features)),
        labels=torch.from_numpy(frame["label"].to_numpy(dtype=np.float32)),
        patients=torch.from_numpy(pd.factorize(frame["patient_id"])[0].astype(np.int64)),
    )
    return (lesions if config.data.views is Views.OWN else average_views(lesions, findings_of(frame))), table


def findings_of(frame: pd.DataFrame) -> Tensor:
    """Return the number ``(N,)`` of the finding that every row shows, int64 from 0; see ``average_views``."""
    numbers = frame.groupby(["patient_id", "finding_id"], sort=False).ngroup()
    return torch.from_numpy(numbers.to_numpy(dtype=np.int64, copy=True))


def _image_shape(config: ExperimentConfig) -> tuple[int, ...]:
    if config.model.modality is Modality.CLINICAL:
        return (0,)
    if config.model.backbone.is_frozen:
        return (FEATURE_WIDTH,)
    return (1, config.data.image.size, config.data.image.size)


def _cache_settings(config: ExperimentConfig) -> dict[str, object]:
    backbone = config.model.backbone
    encoder = f"{backbone} features" if backbone.is_frozen else "pixels"
    return {"image": dataclasses.asdict(config.data.image), "encoder": encoder}


def _files_of(row: Mapping[str, object], root: Path) -> LesionFiles:
    x, y, width, height = (row[name] for name in BOX_COLUMNS)
    film, laterality = row["film_path"], row["laterality"]
    return LesionFiles(
        lesion_paths=tuple(root / path for path in row["lesion_paths"]),  # type: ignore[attr-defined]
        film_path=None if pd.isna(film) else root / str(film),  # type: ignore[call-overload]
        box=None if pd.isna(x) else Box(x=int(x), y=int(y), width=int(width), height=int(height)),  # type: ignore[call-overload]
        laterality=None if pd.isna(laterality) else Laterality(str(laterality)),  # type: ignore[call-overload]
    )


def lesion_files(frame: pd.DataFrame, config: ExperimentConfig) -> list[LesionFiles]:
    """Return the files of every row of a lesion table."""
    root = Path(config.data.root)
    root = root if root.is_dir() else root.parent
    return [_files_of(row, root) for row in frame.to_dict("records")]  # type: ignore[arg-type]


def _key(files: LesionFiles, config: ExperimentConfig, digests: FileDigests) -> str:
    """Return the cache key: the content of the files, and what else of the row decides the result."""
    paths = image_paths_used(files, config.data.image.mode)
    parts = [*(digests.of(path) for path in paths), repr(files.box), repr(files.laterality)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _load_images(
    table: LesionTable, config: ExperimentConfig, report: Progress
) -> tuple[FloatArray, np.ndarray[tuple[int], np.dtype[np.bool_]], LesionTable]:
    """Return images ``(N, ...)``, which rows have one, and the table without the rows whose image cannot be read."""
    frame, shape = table.frame, _image_shape(config)
    if config.model.modality is Modality.CLINICAL:
        return np.zeros((len(frame), *shape), dtype=np.float32), np.zeros(len(frame), dtype=bool), table
    files = lesion_files(frame, config)
    store = _ImageStore(config)
    keys, problems = store.fill(files, report)
    is_kept = np.array([row not in problems for row in range(len(files))], dtype=bool)
    has_image = np.array([key is not None for key in keys], dtype=bool)
    images = np.zeros((len(files), *shape), dtype=np.float32)
    for row, key in enumerate(keys):
        if key is not None:
            images[row] = store.cache.get(key)
    return images[is_kept], has_image[is_kept], _reject(table, problems, is_kept)


class _ImageStore:
    """The cache of one configuration, and the computation that fills it."""

    def __init__(self, config: ExperimentConfig) -> None:
        folder = Path(config.data.cache_dir)
        self._config = config
        self._digests = FileDigests(folder / "digests.json")
        self.cache = ImageCache(folder / "images", _cache_settings(config))

    def fill(self, files: list[LesionFiles], report: Progress) -> tuple[list[str | None], dict[int, str]]:
        """Compute what is missing; return the key of every row, None without image, and the problems by row."""
        keys: list[str | None] = []
        problems: dict[int, str] = {}
        mode = self._config.data.image.mode
        for row, lesion in enumerate(files):
            try:
                has_files = bool(image_paths_used(lesion, mode))
                keys.append(_key(lesion, self._config, self._digests) if has_files else None)
            except OSError as error:
                keys.append(None)
                problems[row] = f"image cannot be read: {error.strerror}"
        missing = {key: row for row, key in enumerate(keys) if key is not None and key not in self.cache}
        is_missing = set(missing)
        done = sum(key not in is_missing for key in keys)
        report(done, len(files))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            remaining = iter(missing.items())
            while shard := list(itertools.islice(remaining, _SHARD_ROWS)):
                arrays = list(pool.map(self._compute, [files[row] for _, row in shard]))
                results = dict(zip([key for key, _ in shard], arrays, strict=True))
                self._put({key: array for key, array in results.items() if not isinstance(array, DicomError)})
                broken = {key: str(error) for key, error in results.items() if isinstance(error, DicomError)}
                problems |= {row: broken[key] for row, key in enumerate(keys) if key in broken}
                done += len(shard)
                report(done, len(files))
        self._digests.save()
        return [None if row in problems else key for row, key in enumerate(keys)], problems

    def _compute(self, lesion: LesionFiles) -> FloatArray | DicomError:
        try:
            pixels = load_lesion(lesion, self._config.data.image)[None]
        except DicomError as error:
            return error
        if not self._config.model.backbone.is_frozen:
            return pixels
        return np.asarray(frozen_features(torch.from_numpy(pixels[None]), self._config.model.backbone)[0].numpy())

    def _put(self, arrays: Mapping[str, FloatArray]) -> None:
        if arrays:
            self.cache.put(list(arrays), np.stack(list(arrays.values())))


def _reject(
    table: LesionTable, problems: Mapping[int, str], is_kept: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> LesionTable:
    if not problems:
        return table
    rows = table.frame.iloc[list(problems)]
    found = pd.DataFrame(
        {
            "source": "images",
            "row": [row + 1 for row in problems],
            "patient_id": rows["patient_id"].to_list(),
            "lesion_id": rows["lesion_id"].to_list(),
            "reason": list(problems.values()),
        },
        columns=list(REJECT_COLUMNS),
    ).astype(table.rejects.dtypes.to_dict())
    return LesionTable(
        frame=table.frame[is_kept].reset_index(drop=True),
        rejects=pd.concat([table.rejects, found], ignore_index=True),
        excluded=table.excluded,
    )
