"""The lesions of another table or data folder as a run's network reads them, or why they cannot be used."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from client.data.dataset import load_all_lesions, set_aside
from client.data.images import LesionFiles
from client.data.network_inputs import Progress, lesion_files
from client.data.tables.cbis_ddsm import TYPE_COLUMNS
from client.data.tables.cells import BOX_COLUMNS
from client.data.tables.lesion_table import LesionTable
from client.data.tables.manifest import load_manifest, read_manifest
from client.data.tables.rejects import kind_of, kinds
from client.data.tables.roster import fold_site
from client.data.tables.site_table import data_folder, read_roster, read_table, restrict
from client.data.tables.text_table import TextTable
from client.identifiers import folded_or_none
from server.evaluation.predictions import ATTRIBUTES, UNKNOWN
from shared_model.config.choices import DataSource, ImageMode, Modality, Views
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.errors import CohortError, ConfigError
from shared_model.vocabulary import LesionType, Split, clinical_columns

_ROSTER = "sites.csv"
"""Beside the tables of CBIS-DDSM, where it is used without being named."""
_NO_OUTCOME = "0"
"""Stands in the column of a table without outcomes until the rows are read, and is nobody's outcome."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the lesions are."""

    path: Path
    """Manifest file, or folder in the layout of CBIS-DDSM."""
    is_manifest: bool
    split: Split | None
    """Only rows of this split; None takes all."""
    roster: Path | None = None
    """Says which site saw whom."""
    sites: tuple[str, ...] = ()
    """Only patients whom the roster gives to these; empty takes all."""
    cache: Path
    """Folder of the network's inputs: not the run's, whose folder may come from elsewhere and name any place."""

    @property
    def name(self) -> str:
        """The file's name without its ending, or the folder's."""
        return self.path.stem if self.is_manifest else self.path.resolve().name


@dataclass(frozen=True, kw_only=True, eq=False)
class OtherLesions:
    """``N`` lesion views, and what became of the other rows."""

    lesions: Lesions
    """Its labels mean nothing without ``has_outcomes``."""
    has_outcomes: bool
    patient_ids: tuple[str, ...]
    lesion_ids: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    """As of ``Predictions``."""
    files: tuple[LesionFiles, ...]
    """The pictures of each."""
    num_rows: int
    """Of the table, or of the part of it that was asked for."""
    rejects: tuple[tuple[str, ...], ...]
    """Rows that could not be used: file, row, patient, lesion, reason."""
    notes: tuple[str, ...]
    """What a reader of the figures should know about the table."""

    def reasons(self) -> dict[str, int]:
        """Return the kinds of reasons why rows could not be used, without paths and values, the most frequent first."""
        found = kinds(reason for *_, reason in self.rejects)
        return {kind_of(kind.example): kind.num_rows for kind in found}


def read_other_lesions(source: Source, config: ExperimentConfig, report: Progress) -> OtherLesions:
    """Read the lesions of ``source`` for the network of ``config``.

    Raises:
        ConfigError: the table or its images are not what the network reads.
        TableError: the table cannot be read.
        CohortError: no lesion can be scored.
    """
    config = _of_source(source, config)
    text = load_manifest(source.path) if source.is_manifest else None
    has_outcomes = text is None or "label" in text.recorded
    notes = [] if text is None else _check_columns(text, config)
    table = _read(source, config, has_outcomes=has_outcomes)
    homes = read_roster(config.data)
    if source.sites:
        table = _of_sites(table, source, homes)
    num_rows = sum(len(part) for part in (table.frame, table.rejects, table.excluded))
    table = _of_known_types(table, config)
    lesions, table = load_all_lesions(table, config, report=report)
    _require_images(lesions, table, config)
    lesions, table = _with_what_is_read(lesions, table, config)
    rejects = [*_rows(table.rejects), *_rows(table.excluded)]
    if not len(lesions):
        raise CohortError(_nothing_to_score(source, rejects))
    return OtherLesions(
        lesions=lesions,
        has_outcomes=has_outcomes,
        patient_ids=tuple(map(str, table.frame["patient_id"])),
        lesion_ids=tuple(map(str, table.frame["lesion_id"])),
        attributes=dict(_attributes(table, homes, has_outcomes=has_outcomes)),
        files=tuple(lesion_files(table.frame, config)),
        num_rows=num_rows,
        rejects=tuple((*cells, _without_path(reason, config)) for *cells, reason in rejects),
        notes=tuple(notes),
    )


def _of_source(source: Source, config: ExperimentConfig) -> ExperimentConfig:
    """Return the run's configuration with the paths of ``source`` in place of its own."""
    roster = source.roster
    if roster is None and not source.is_manifest and (source.path / _ROSTER).is_file():
        roster = source.path / _ROSTER
    if roster is None and source.sites:
        raise ConfigError("Expected a roster that says which site saw whom; name it with --roster.")
    data = dataclasses.replace(
        config.data,
        source=DataSource.MANIFEST if source.is_manifest else DataSource.CBIS_DDSM,
        root=str(source.path),
        roster=None if roster is None else str(roster.resolve()),
        cache_dir=str(source.cache),
    )
    return dataclasses.replace(config, data=data)


def _check_columns(text: TextTable, config: ExperimentConfig) -> list[str]:
    """Return what to note about the columns of a manifest.

    Raises:
        ConfigError: they are not those that the network reads, or say that its images are others.
    """
    data, notes = config.data, []
    if config.model.modality is not Modality.IMAGE:
        needed = _columns_read(config)
        if absent := [name for name in needed if name not in text.columns]:
            raise ConfigError(
                f"Expected {text.source} to have what the network reads (data.features={data.features}), got no column "
                f"{', '.join(absent)}; add it, with empty cells where it was never recorded."
            )
        if empty := [name for name in needed if name not in text.recorded]:
            notes.append(f"No row has {', '.join(empty)}, which the network reads.")
    if config.model.modality is not Modality.CLINICAL:
        _check_image_columns(text, config)
    if data.views is Views.ALL and "finding_id" not in text.recorded:
        notes.append(
            "The network reads the mean over the views of a lesion, and the table has no finding_id that says which "
            "rows show the same one: each row was scored by itself."
        )
    return notes


def _check_image_columns(text: TextTable, config: ExperimentConfig) -> None:
    if config.model.modality is Modality.IMAGE and "image_path" not in text.recorded:
        raise ConfigError(f"Expected {text.source} to name images in column image_path: the network reads only them.")
    has_boxes = "image_path" in text.recorded and not text.recorded.isdisjoint(BOX_COLUMNS)
    if has_boxes and config.data.image.mode is ImageMode.CROP:
        raise ConfigError(
            f"Expected cropped images in {text.source}, as the network reads them (data.image.mode=crop), got boxes "
            "on films; leave roi_x to roi_h out if the images are crops, or train with data.image.mode=roi."
        )


def _columns_read(config: ExperimentConfig) -> list[str]:
    """Return the columns that tell lesions of the run's types apart; age and family history may be absent."""
    others = {name for kind in LesionType if kind not in config.data.lesion_types for name in TYPE_COLUMNS[kind]}
    columns = clinical_columns(config.data.features)
    return [column.name for column in columns if not column.optional and column.name not in others]


def _read(source: Source, config: ExperimentConfig, *, has_outcomes: bool) -> LesionTable:
    if source.is_manifest:
        filled = {} if source.split is not None else {"split": str(Split.TEST)}
        if not has_outcomes:
            filled["label"] = _NO_OUTCOME
        image_mode = None if config.model.modality is Modality.CLINICAL else config.data.image.mode
        table = read_manifest(source.path, image_mode=image_mode, filled=filled)
    else:
        table = read_table(config)
    if source.split is None:
        return table
    rejects = table.rejects
    if not source.is_manifest:
        # Each of the official tables is of one split, also where a row of it cannot be read.
        rejects = rejects[np.array([f"_{source.split}_" in str(name) for name in rejects["source"]], dtype=bool)]
    return dataclasses.replace(
        table,
        frame=table.frame[table.frame["split"] == source.split].reset_index(drop=True),
        rejects=rejects.reset_index(drop=True),
        excluded=table.excluded if source.split is Split.TRAIN else table.excluded.iloc[:0],
    )


def _of_sites(table: LesionTable, source: Source, homes: Mapping[str, str] | None) -> LesionTable:
    known = homes or {}
    named, in_roster = {fold_site(name): name for name in source.sites}, set(map(fold_site, known.values()))
    if unknown := [name for folded, name in named.items() if folded not in in_roster]:
        names = ", ".join(sorted(set(known.values())))
        raise ConfigError(f"Expected --site {', '.join(sorted(unknown))} to be one of those in the roster: {names}.")
    return restrict(table, {patient for patient, home in known.items() if fold_site(home) in named})


_Rejects = list[tuple[str, ...]]


def _of_known_types(table: LesionTable, config: ExperimentConfig) -> LesionTable:
    """Set lesions of a type aside that the network was not trained on; a row that names no type stays."""
    known = {str(kind) for kind in config.data.lesion_types}
    kinds_of_rows = enumerate(_cells(table, "abnormality_type"))
    unknown = {row: kind for row, kind in kinds_of_rows if kind is not None and kind not in known}
    reasons = {row: f"lesion type {kind}, on which the network was not trained" for row, kind in unknown.items()}
    return set_aside(table, reasons)


def _with_what_is_read(lesions: Lesions, table: LesionTable, config: ExperimentConfig) -> tuple[Lesions, LesionTable]:
    """Set lesions without an image aside where the network reads nothing else."""
    if config.model.modality is not Modality.IMAGE:
        return lesions, table
    has_image = lesions.has_image.numpy()
    problems = dict.fromkeys(np.flatnonzero(~has_image).tolist(), "no image, and nothing else is read")
    return lesions.select(torch.from_numpy(np.flatnonzero(has_image))), set_aside(table, problems)


def _require_images(lesions: Lesions, table: LesionTable, config: ExperimentConfig) -> None:
    """Check that the network saw an image where rows name some: another image mode would find none of them."""
    if config.model.modality is Modality.CLINICAL or lesions.has_image.any() or not len(lesions):
        return
    names_images = any(len(paths) for paths in table.frame["lesion_paths"]) or table.frame["film_path"].notna().any()
    if names_images:
        raise ConfigError(
            f"Expected images as the network reads them (data.image.mode={config.data.image.mode}), got none for any "
            "lesion; a manifest names crops."
        )


def _attributes(
    table: LesionTable, homes: Mapping[str, str] | None, *, has_outcomes: bool
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the attributes that the table states for any lesion."""
    if homes is not None:
        sites = {folded_or_none(patient): site for patient, site in homes.items()}
        yield "site", tuple(sites.get(folded_or_none(patient), UNKNOWN) for patient in table.frame["patient_id"])
    for name in ATTRIBUTES:
        if name == "site" or (name == "pathology" and not has_outcomes):
            continue
        cells = _cells(table, name)
        if any(cell is not None for cell in cells):
            yield name, tuple(UNKNOWN if cell is None else cell for cell in cells)


def _cells(table: LesionTable, name: str) -> list[str | None]:
    column = table.frame[name]
    return [None if is_missing else str(cell) for cell, is_missing in zip(column, column.isna(), strict=True)]


def _rows(frame: object) -> _Rejects:
    return [tuple(map(str, cells)) for cells in frame.itertuples(index=False, name=None)]  # type: ignore[attr-defined]


def _without_path(reason: str, config: ExperimentConfig) -> str:
    """Return a reason that is the same for every file it was found in."""
    before, expected, after = reason.partition(": Expected ")
    root = str(data_folder(config.data))
    return f"Expected {after}" if expected and root in before else reason.replace(root, "")


def _nothing_to_score(source: Source, rejects: _Rejects) -> str:
    if not rejects:
        return f"Expected lesions in {source.path}, found none."
    most = kinds(reason for *_, reason in rejects)[0]
    return (
        f"Expected a lesion that can be scored in {source.path}, got none; most common reason ({most.num_rows} rows): "
        f"{most.example}"
    )
