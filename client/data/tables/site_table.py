"""The lesion table of one site: read in the format of ``data.source``, cut down to the site's own patients."""

import dataclasses
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from client.data.tables.cbis_ddsm import read_cbis_ddsm
from client.data.tables.lesion_table import LesionTable
from client.data.tables.manifest import read_manifest
from client.data.tables.text_table import TextTable
from client.identifiers import folded_or_none
from shared_model.config.choices import DataSource, Modality
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.site_sections import DataConfig
from shared_model.errors import ConfigError, TableError

TableState = tuple[tuple[str, tuple[int, ...] | None], ...]
"""Path and state of every file; None where it cannot be looked at."""
_SITE_COLUMNS = ("site", "institution")


def site_table(config: ExperimentConfig, site: str | None) -> LesionTable:
    """Read the table and keep the patients of ``site``; None keeps those of every site of the federation.

    Names of sites are compared without regard to case: a roster's is often typed by somebody else.

    A patient whom the roster gives to several sites is nobody's here. That it does is for ``read_roster`` to say, which
    preflight asks, and not for a request to answer.

    Raises:
        ConfigError, TableError: a file cannot be read; see ``read_table``.
    """
    table = read_table(config)
    if config.data.roster is None:
        return table
    sites = {name.casefold() for name in (config.federation.sites if site is None else (site,))}
    homes: dict[str, set[str]] = {}
    for patient, home in _roster_rows(_roster_table(config.data)):
        homes.setdefault(folded_or_none(patient) or patient, set()).add(home.casefold())
    return restrict(table, {patient for patient, named in homes.items() if len(named) == 1 and named <= sites})


def table_state(root: Path, roster: str | None) -> TableState:
    """Return what changes when somebody writes to a table or the roster of the site; nothing of them is read."""
    states: dict[str, tuple[int, ...] | None] = {}
    try:
        files = sorted(root.glob("*.csv")) if root.is_dir() else [root]
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
        TableError: the roster cannot be read, lacks a column or a cell, or names two sites for a patient.
    """
    if data.roster is None:
        return None
    table = _roster_table(data)
    table.require_whole()
    roster: dict[str, str] = {}
    homes: dict[str, str] = {}
    for patient, site in _roster_rows(table):
        roster.setdefault(patient, site)
        if homes.setdefault(folded_or_none(patient) or patient, site) != site:
            raise TableError(f"Expected one site for every patient in {table.source}, got two for one patient.")
    return roster


def _roster_table(data: DataConfig) -> TextTable:
    path = data_folder(data) / (data.roster or "")
    table = TextTable.load(path)
    table.require(["patient_id"])
    if not any(name in table.columns for name in _SITE_COLUMNS):
        raise TableError(f"Expected a column site or institution in {path}.")
    return table


def _roster_rows(table: TextTable) -> list[tuple[str, str]]:
    """Return patient and site of every row."""
    column = next(name for name in _SITE_COLUMNS if name in table.columns)
    return [(cells["patient_id"].strip(), cells[column].strip()) for cells in table.rows]


def restrict(table: LesionTable, patients: Collection[str]) -> LesionTable:
    """Return the part of the table, rejects and exclusions that concerns ``patients``, however they are spelt."""
    kept = {folded_or_none(patient) for patient in patients} - {None}

    def part(frame: pd.DataFrame) -> pd.DataFrame:
        is_kept = [folded_or_none(patient) in kept for patient in frame["patient_id"]]
        # Of an empty list pandas would not know that it is a mask.
        return frame[np.array(is_kept, dtype=bool)].reset_index(drop=True)

    return dataclasses.replace(
        table,
        frame=part(table.frame),
        rejects=part(table.rejects),
        excluded=part(table.excluded),
        respelt=frozenset(patient for patient in table.respelt if folded_or_none(patient) in kept),
    )


def data_folder(data: DataConfig) -> Path:
    """Return the folder that image paths and the roster are relative to: ``data.root``, or that of a manifest."""
    return _folder(Path(data.root))


def _folder(root: Path) -> Path:
    return root if root.is_dir() else root.parent
