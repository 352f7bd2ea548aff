"""The lesion table of one site: read in the format of ``data.source``, cut down to the site's own patients."""

from collections.abc import Collection
from pathlib import Path

from client.data.tables.cbis_ddsm import read_cbis_ddsm
from client.data.tables.lesion_table import LesionTable
from client.data.tables.manifest import read_manifest
from client.data.tables.text_table import TextTable
from shared_model.config.choices import DataSource, Modality
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.site_sections import DataConfig
from shared_model.errors import CohortError, ConfigError, TableError


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
    table = restrict(table, {patient for patient, home in roster.items() if home in sites})
    if table.frame.empty and table.rejects.empty:
        raise CohortError(f"Expected patients of site {', '.join(sites)} in the roster {config.data.roster}, got none.")
    return table


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
    path = data_folder(data) / data.roster
    table = TextTable.load(path)
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


def data_folder(data: DataConfig) -> Path:
    """Return the folder that image paths and the roster are relative to: ``data.root``, or that of a manifest."""
    root = Path(data.root)
    return root if root.is_dir() else root.parent
