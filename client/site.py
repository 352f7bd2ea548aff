"""Which hospital this process is, and its data in network input form."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from client.clinical import LesionTable, check_rejects
from client.dataset import load_lesions, site_table
from client.roles import Role, check_cohort
from shared_model.config import ExperimentConfig
from shared_model.errors import ConfigError
from shared_model.lesions import Lesions

_PARTITION = "partition-id"


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteData:
    """One site's lesions by role, and its table with what was rejected."""

    site: str
    lesions: Mapping[Role, Lesions]
    table: LesionTable


def site_name(node_config: Mapping[str, object], config: ExperimentConfig) -> str:
    """Return the site that the simulated node ``partition-id`` plays.

    Raises:
        ConfigError: the node has no such key, or the federation has fewer sites.
    """
    index = node_config.get(_PARTITION)
    sites = config.federation.sites
    if not isinstance(index, int | str) or not str(index).isdigit() or int(index) >= len(sites):
        raise ConfigError(f"Expected node config {_PARTITION}={index!r} in [0, {len(sites) - 1}].")
    return sites[int(index)]


@lru_cache(maxsize=64)
def load_site(config: ExperimentConfig, site: str) -> SiteData:
    """Return the data of ``site``, read once per process.

    Raises:
        DataError: tables or images cannot be used, too many rows were rejected, or a class is missing.
        ConfigError: the data folder does not exist.
    """
    lesions, table = load_lesions(site_table(config, site), config)
    check_rejects(table, config.data.max_reject_fraction)
    train = lesions[Role.TRAIN]
    check_cohort(train.labels.numpy(), train.patients.numpy(), role=Role.TRAIN)
    return SiteData(site=site, lesions=lesions, table=table)
