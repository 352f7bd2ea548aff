"""The lesion table of one site: read in the format of ``data.source``, cut down to the site's own patients."""

import threading
from collections.abc import Collection, Hashable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from client.data.tables.case_tables import table_files
from client.data.tables.cbis_ddsm import read_cbis_ddsm
from client.data.tables.distinct_cells import parse_distinct
from client.data.tables.lesion_table import PARTS, LesionTable
from client.data.tables.manifest import read_manifest
from client.data.tables.rejects import REJECT_COLUMNS, RejectCells
from client.data.tables.roster import Roster, at_sites, patient_key
from client.identifiers import folded_or_none
from shared_model.config.choices import DataSource, Modality
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.site_sections import DataConfig
from shared_model.errors import ConfigError

TableState = tuple[tuple[str, tuple[int, ...] | None], ...]
"""Path and state of every file; None where it cannot be looked at."""
NOT_IN_ROSTER = "patient is not in the roster"


def site_table(config: ExperimentConfig, site: str | None) -> LesionTable:
    """Read the table and keep the patients of ``site``; None keeps those of every site of the federation.

    A patient whom the roster gives to several sites is nobody's here. That it does is for ``read_roster`` to say, which
    preflight asks, and not for a request to answer. Rows of patients whom it does not name are rejected.

    Raises:
        ConfigError, TableError: a file cannot be read; see ``read_table``.
    """
    table, homes = read_table(config), read_homes(config.data)
    if homes is None:
        return table
    sites = config.federation.sites if site is None else (site,)
    return of_roster(table, named=homes.keys(), kept=at_sites(homes, sites))


def of_roster(table: LesionTable, *, named: Collection[str], kept: Collection[str]) -> LesionTable:
    """Return the part of the table that concerns the patients ``kept``; of others only what the roster left open.

    That is rows without an identifier, rejected already, and rows of patients whom it does not name, rejected here:
    somebody should hear of them, and nobody knows whose they are.

    Args:
        table: of all patients.
        named: folded identifiers of all patients in the roster.
        kept: those of them whose rows stay.
    """
    owner = row_owners(table)
    unknown = rejects_of_nobody(table.frame[~owner["frame"].isin(named)])
    is_kept = {name: owners.isin(kept) for name, owners in owner.items()}
    is_kept["rejects"] |= ~owner["rejects"].isin(named)
    return _part(table, is_kept, kept).with_rejects(unknown)


def rejects_of_nobody(unknown: pd.DataFrame) -> list[RejectCells]:
    """Return the rejects that rows of patients whom the roster does not name become."""
    return list(zip(*(unknown[name] for name in REJECT_COLUMNS[:-1]), [NOT_IN_ROSTER] * len(unknown), strict=True))


def restrict(table: LesionTable, patients: Collection[str]) -> LesionTable:
    """Return the part of the table, rejects and exclusions that concerns ``patients``, however they are spelt."""
    kept = {folded for patient in patients if (folded := folded_or_none(patient)) is not None}
    return _part(table, {name: owners.isin(kept) for name, owners in row_owners(table).items()}, kept)


def row_owners(table: LesionTable) -> "dict[str, pd.Series[str]]":
    """Return the folded patient of every row, by the parts of the table."""
    columns = {name: getattr(table, name)["patient_id"] for name in PARTS}
    return {
        name: pd.Series(parse_distinct(column.to_list(), patient_key).values, index=column.index, dtype=object)
        for name, column in columns.items()
    }


def _part(table: LesionTable, is_kept: "Mapping[str, pd.Series[bool]]", patients: Collection[str]) -> LesionTable:
    """Return the rows that are kept of every table; ``patients`` are the folded ones they are of."""
    rows = {name: np.flatnonzero(kept.to_numpy(dtype=bool)) for name, kept in is_kept.items()}
    return table.part(rows, respelt=frozenset(patient for patient in table.respelt if patient_key(patient) in patients))


def table_state(root: Path, roster: str | None) -> TableState:
    """Return what changes when somebody writes to a table or the roster of the site; nothing of them is read."""
    states: dict[str, tuple[int, ...] | None] = {}
    try:
        files = table_files(root) if root.is_dir() else [root]
        if roster is not None:
            files.append(_folder(root) / roster)
    except OSError:
        # A share that is away; whoever reads the tables says so.
        return ((str(root), None),)
    for path in files:
        try:
            status = path.stat()
            states[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        except OSError:
            states[str(path)] = None
    return tuple(states.items())


def read_shared_table(config: ExperimentConfig) -> LesionTable:
    """Read the table as ``read_table`` does, and keep it for the sites of a simulation, which have one data root."""
    key = _table_key(config)
    with _SHARED_LOCK:
        table = read_table(config)
        _SHARED[:] = [(key, table)]
    return table


def shared_table(config: ExperimentConfig) -> LesionTable:
    """Return the table that was kept last, if it is this one and no table file has changed since; else read it.

    Raises:
        ConfigError, TableError: as ``read_table``.
    """
    key = _table_key(config)
    with _SHARED_LOCK:
        for known, table in _SHARED:
            if known == key:
                return table
        table = read_table(config)
        _SHARED[:] = [(key, table)]
    return table


_SHARED: list[tuple[Hashable, LesionTable]] = []
"""At most one table, with what it was read from."""
_SHARED_LOCK = threading.Lock()
"""Held while one is read, so that sites that begin together do not all read it."""


def _table_key(config: ExperimentConfig) -> Hashable:
    data = config.data
    looks = None if config.model.modality is Modality.CLINICAL else data.image.mode
    return data.root, data.source, data.lesion_types, looks, table_state(Path(data.root), None)


def read_table(config: ExperimentConfig) -> LesionTable:
    """Read the tables under ``config.data.root`` and find the image files.

    Raises:
        ConfigError: the data folder or manifest does not exist.
        TableError: a table is missing, malformed or lacks a column.
    """
    data, root = config.data, Path(config.data.root)
    if not root.exists():
        raise ConfigError(f"Expected data.root={data.root} to exist.")
    image_mode = None if config.model.modality is Modality.CLINICAL else data.image.mode
    if data.source is DataSource.MANIFEST:
        return read_manifest(root, image_mode=image_mode)
    return read_cbis_ddsm(root, lesion_types=data.lesion_types, image_mode=image_mode)


def read_roster(data: DataConfig, *, sites: Iterable[str] = ()) -> dict[str, str] | None:
    """Return the site of every patient, or None where all patients are the site's own.

    Args:
        data: names the roster.
        sites: of the federation; names in the roster that differ in case and space alone are spelt as these.

    Raises:
        TableError: the roster cannot be read, lacks a column or a cell, or names two sites for a patient.
    """
    return None if data.roster is None else Roster(_roster_path(data)).site_by_patient(sites)


def read_homes(data: DataConfig) -> dict[str, set[str]] | None:
    """Return the folded sites of every patient, by folded identifier; None where all patients are the site's own.

    Raises:
        TableError: the roster cannot be read, or lacks a column.
    """
    return None if data.roster is None else Roster(_roster_path(data)).homes()


def _roster_path(data: DataConfig) -> Path:
    return data_folder(data) / (data.roster or "")


def data_folder(data: DataConfig) -> Path:
    """Return the folder that image paths and the roster are relative to: ``data.root``, or that of a manifest."""
    return _folder(Path(data.root))


def _folder(root: Path) -> Path:
    return root if root.is_dir() else root.parent
