"""Which hospital this process is, where its files lie, and its patients' data."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import pandas as pd

from client.data.dataset import configured_roles, load_lesions
from client.data.splits import Role, check_cohort
from client.data.tables.lesion_table import LesionTable, check_rejects
from client.data.tables.site_table import site_table
from client.privacy.ledger import Ledger
from client.privacy.policy import OPEN_POLICY, SitePolicy
from shared_model.config.choices import DataSource
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import source_fingerprint
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError

_PARTITION = "partition-id"
_SITE, _LEDGER, _POLICY = "site", "ledger", "policy"
_DATA_ROOT, _DATA_SOURCE, _ROSTER, _CACHE = "data-root", "data-source", "roster", "cache-dir"
_REQUIRED = (_SITE, _DATA_ROOT, _LEDGER, _POLICY)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteSettings:
    """What the site alone decides."""

    site: str
    config: ExperimentConfig
    """The server's, with the site's own data folder, roster and cache."""
    ledger: Path
    policy: Path

    @classmethod
    def from_node_config(cls, node_config: Mapping[str, object], config: ExperimentConfig) -> "SiteSettings":
        """Read the settings of a node.

        A deployed node has the keys ``site``, ``data-root``, ``ledger`` and ``policy``, and may have ``data-source``,
        ``roster`` and ``cache-dir`` (beside the ledger, if not given): of the server's paths it uses none. A simulated
        node has Flower's ``partition-id`` only and takes its paths from the configuration.

        Raises:
            ConfigError: a key is missing or wrong, or the federation does not know the site.
        """
        if _PARTITION in node_config:
            return cls._from_partition(node_config[_PARTITION], config)
        values = {key: str(value) for key, value in node_config.items()}
        for key in _REQUIRED:
            if not values.get(key):
                raise ConfigError(f"Expected node config {key}; a site sets {', '.join(_REQUIRED)}.")
        site, ledger = values[_SITE], Path(values[_LEDGER])
        if site not in config.federation.sites:
            raise ConfigError(f"Expected node config {_SITE}={site!r} in federation.sites.")
        source = values.get(_DATA_SOURCE, DataSource.CBIS_DDSM)
        if source not in {str(known) for known in DataSource}:
            raise ConfigError(f"Expected node config {_DATA_SOURCE}={source!r} to be one of {', '.join(DataSource)}.")
        data = dataclasses.replace(
            config.data,
            root=values[_DATA_ROOT],
            source=DataSource(source),
            roster=values.get(_ROSTER) or None,
            cache_dir=values.get(_CACHE) or str(ledger.parent / "cache"),
        )
        return cls(
            site=site, config=dataclasses.replace(config, data=data), ledger=ledger, policy=Path(values[_POLICY])
        )

    @classmethod
    def _from_partition(cls, index: object, config: ExperimentConfig) -> "SiteSettings":
        federation = config.federation
        if not isinstance(index, int | str) or not str(index).isdigit() or int(index) >= len(federation.sites):
            raise ConfigError(f"Expected node config {_PARTITION}={index!r} in [0, {len(federation.sites) - 1}].")
        site = federation.sites[int(index)]
        return cls(
            site=site,
            config=config,
            ledger=simulated_ledger(config, site),
            policy=OPEN_POLICY if federation.site_policy is None else Path(federation.site_policy),
        )


def simulated_ledger(config: ExperimentConfig, site: str) -> Path:
    """Return where the ledger of a simulated site lies."""
    return Path(config.federation.ledger_dir) / f"{site}.sqlite"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SiteData:
    """One site's patients; the tables are there at once, images are read when ``lesions`` is first asked for."""

    config: ExperimentConfig
    table: LesionTable

    @cached_property
    def role_by_patient(self) -> "pd.Series[str]":
        """The role of every patient of the table."""
        return configured_roles(self.table.frame, self.config)

    def patients(self, *roles: Role) -> list[str]:
        """Return the identifiers of the patients with one of ``roles``, also of those whose images cannot be read."""
        return [str(patient) for patient, role in self.role_by_patient.items() if role in roles]

    @cached_property
    def lesions(self) -> Mapping[Role, Lesions]:
        """Lesions by role.

        Raises:
            DataError: images cannot be used, too many were rejected, or a class is missing.
        """
        lesions, table = load_lesions(self.table, self.config)
        check_rejects(table, self.config.data.max_reject_fraction)
        train = lesions[Role.TRAIN]
        check_cohort(train.labels.numpy(), train.patients.numpy(), role=Role.TRAIN)
        return lesions


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """A hospital whose policy allows a request of this configuration."""

    name: str
    policy: SitePolicy
    ledger: Ledger
    data: SiteData


def open_site(node_config: Mapping[str, object], config: ExperimentConfig) -> Site:
    """Check the configuration against the site's policy; then open its ledger and read its tables.

    Raises:
        PolicyError: the site does not allow what the configuration asks for.
        LedgerError: the ledger was changed, is damaged or cannot be written.
        ConfigError, DataError: settings, policy or tables cannot be used.
    """
    settings = SiteSettings.from_node_config(node_config, config)
    policy = SitePolicy.load(settings.policy)
    policy.require(config, source_fingerprint())
    return Site(
        name=settings.site,
        policy=policy,
        ledger=_open_ledger(settings.ledger),
        data=load_site(settings.config, settings.site),
    )


@lru_cache(maxsize=64)
def load_site(config: ExperimentConfig, site: str) -> SiteData:
    """Return the data of ``site``; its tables are read once per process.

    Raises:
        DataError: tables cannot be used, too many rows were rejected, or a class is missing.
        ConfigError: the data folder does not exist.
    """
    table = site_table(config, site)
    check_rejects(table, config.data.max_reject_fraction)
    data = SiteData(config=config, table=table)
    train = table.frame[table.frame["patient_id"].map(data.role_by_patient) == Role.TRAIN]
    check_cohort(train["label"].to_numpy(), train["patient_id"].to_numpy(), role=Role.TRAIN)
    return data


@lru_cache(maxsize=64)
def _open_ledger(path: Path) -> Ledger:
    return Ledger(path)
