"""Which hospital this process is, where its files lie, and its patients' data."""

import dataclasses
import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from functools import cache, cached_property, lru_cache
from pathlib import Path

import pandas as pd
import torch

from client.data.dataset import load_all_lesions
from client.data.network_inputs import purge_network_inputs
from client.data.splits import Role, assign_roles, simulated_secret
from client.data.tables.lesion_table import LesionTable
from client.data.tables.shared_table import SharedTable
from client.data.tables.site_table import TableState, restrict, site_table, table_state
from client.privacy.declared_size import rounded_down
from client.privacy.ledger import Ledger
from client.privacy.ledger_creation import is_begun
from client.privacy.policy import OPEN_POLICY, SitePolicy
from shared_model.config.choices import DataSource
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import source_fingerprint
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError, LedgerError, PolicyError, TableError
from shared_model.network.feature_engines import prepare_engine
from shared_model.system.deadline import Deadline

logger = logging.getLogger(__name__)

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
    is_simulated: bool = False

    def load_policy(self) -> SitePolicy:
        """Read the site's policy; a simulated one allows what its file does not mention.

        Raises:
            ConfigError: it cannot be read, or a key is wrong.
        """
        return SitePolicy.load(self.policy, defaults=OPEN_POLICY if self.is_simulated else None)

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
            is_simulated=True,
        )


def simulated_ledger(config: ExperimentConfig, site: str) -> Path:
    """Return where the ledger of a simulated site lies: in a folder of its own, since its writers look through it."""
    return Path(config.federation.ledger_dir) / site / "ledger.sqlite"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SiteData:
    """One site's patients; the tables are there at once, images are read when lesions are first asked for.

    Nothing here is judged and nothing raises for what the data hold: rows and images that cannot be used were set
    aside, and a cohort may be empty or of one class. Whether the data are fit for training is for preflight to say,
    once, to the people at the site.
    """

    config: ExperimentConfig
    table: LesionTable
    """Without those who are forgotten."""
    role_secret: bytes
    validation_fraction: float
    max_cache_bytes: float | None = None
    is_cache_purged: bool = False
    """Whether somebody is forgotten, so that the cache must hold nothing but what this table needs."""
    _loaded: "list[tuple[Lesions, pd.Series[str]]]" = dataclasses.field(default_factory=list, init=False, repr=False)
    """All lesions and the patient of each, once they have been read."""
    _patients: dict[tuple[Role, ...], list[str]] = dataclasses.field(default_factory=dict, init=False, repr=False)
    """By roles, once they have been asked for."""

    @cached_property
    def role_by_patient(self) -> "pd.Series[str]":
        """The role of every patient of the table."""
        return assign_roles(self.table.frame, secret=self.role_secret, validation_fraction=self.validation_fraction)

    def patients(self, *roles: Role) -> list[str]:
        """Return the identifiers of the patients with one of ``roles``, also of those whose images cannot be read."""
        if roles not in self._patients:
            chosen = self.role_by_patient[self.role_by_patient.isin(roles)]
            self._patients[roles] = [str(patient) for patient in chosen.index]
        return list(self._patients[roles])

    def lesions(
        self, role: Role, takes_part: Callable[[str], bool] = lambda _: True, *, deadline: Deadline | None = None
    ) -> Lesions:
        """Return the lesions of the patients of ``role`` who take part, possibly none.

        Raises:
            TimeLimitError: ``deadline`` passed while images were read; those that were read are in the cache.
        """
        if not self._loaded:
            self._loaded.append(self._load(deadline or Deadline(None)))
        lesions, patients = self._loaded[0]
        chosen = {patient for patient in self.patients(role) if takes_part(patient)}
        return lesions.select(torch.from_numpy(patients.isin(chosen).to_numpy(dtype=bool, copy=True)))

    def _load(self, deadline: Deadline) -> "tuple[Lesions, pd.Series[str]]":
        lesions, table = load_all_lesions(
            self.table, self.config, report=deadline.require, max_cache_bytes=self.max_cache_bytes
        )
        if self.is_cache_purged:
            self._purge_cache()
        return lesions, table.frame["patient_id"]

    def _purge_cache(self) -> None:
        """Erase what a request that was under way when somebody was forgotten may have put there afterwards."""
        try:
            purge_network_inputs(self.table.frame, self.config)
        except OSError:
            # No reply may depend on it; the next load tries again.
            logger.exception("The cached images of patients who are forgotten cannot be erased.")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """A hospital whose policy allows a request of this configuration."""

    settings: SiteSettings
    policy: SitePolicy
    ledger: Ledger
    deadline: Deadline = dataclasses.field(default_factory=lambda: Deadline(None))
    """For the answer to this request."""

    @property
    def name(self) -> str:
        """The hospital's name in the federation."""
        return self.settings.site

    @property
    def data(self) -> SiteData:
        """The hospital's patients as its files have them now, without those whom the ledger has forgotten.

        The files are read again when a table had changed before this request or somebody was forgotten.

        Raises:
            TableError: a file cannot be read. The server learns only that the site failed.
            LedgerError: the ledger was changed or is damaged.
        """
        return _site_data(self.settings, self.policy, self.ledger, self._tables)

    @cached_property
    def _tables(self) -> TableState:
        """The tables as one answer finds them, however often it asks for its patients."""
        data = self.settings.config.data
        return table_state(Path(data.root), data.roster)

    def num_declared(self) -> int:
        """Return the size of the training cohort that the site tells: the policy's constant.

        A simulated site whose policy has none counts, rounded down to ``privacy.cohort_rounding``.
        """
        if self.policy.declared_patients is not None:
            return self.policy.declared_patients
        num_patients = len(self.data.patients(Role.TRAIN))
        return max(1, rounded_down(num_patients, self.settings.config.privacy.cohort_rounding))

    def is_below_declared(self) -> bool:
        """Return whether fewer patients are trained on than the site's policy declares: for the site's own people."""
        declared = self.policy.declared_patients
        return declared is not None and len(self.data.patients(Role.TRAIN)) < declared


def open_site(node_config: Mapping[str, object], config: ExperimentConfig) -> Site:
    """Check the configuration against the site's policy and open its ledger; no table is read.

    Raises:
        PolicyError: the site does not allow what the configuration asks for.
        LedgerError: there is no ledger, it was changed, is damaged or cannot be written.
        ConfigError: settings, policy or ``model.feature_engine`` cannot be used.
    """
    settings = SiteSettings.from_node_config(node_config, config)
    policy = settings.load_policy()
    policy.require(config, source_fingerprint())
    if policy.declared_patients is None and not settings.is_simulated:
        message = "Expected declared_patients in the site's policy; fedmammo site init fills it in."
        raise PolicyError(message, key="declared_patients")
    if config.federation.secure_sum and not settings.is_simulated:
        _require_partners(policy, settings)
    # Before anything is reserved, whoever the patients are.
    prepare_engine(config.model, config.data.image.size)
    ledger = (_open_simulated_ledger if settings.is_simulated else _open_ledger)(settings.ledger)
    return Site(settings=settings, policy=policy, ledger=ledger, deadline=Deadline(policy.max_request_seconds))


def forget_simulated_sites() -> None:
    """Drop data and ledgers of simulated sites from memory when their run is over: a process may have many runs.

    A deployed site's ledger stays, whose memory notices that an older copy was put in its place.
    """
    with _DATA_LOCK:
        for key in [key for key in _DATA if key[1]]:
            del _DATA[key]
    _open_simulated_ledger.cache_clear()


def _require_partners(policy: SitePolicy, settings: SiteSettings) -> None:
    """Check that the site's policy has the identity of every other site, so that the server cannot pose as one.

    Raises:
        PolicyError: it has not; the message names the sites.
    """
    others = [name for name in settings.config.federation.sites if name != settings.site]
    missing = [name for name in others if name not in (policy.partners or {})]
    if missing:
        message = (
            f"Expected identities of {', '.join(missing)} in partners of the site's policy, as federation.secure_sum "
            "needs them; each site prints its own with fedmammo site identity."
        )
        raise PolicyError(message, key="partners")


_DATA: dict[tuple[Path, bool], tuple[Hashable, SiteData]] = {}
"""By ledger, and whether the site is simulated, the data that were asked for last: a server that asks for ever new
configurations fills no memory."""
_DATA_LOCK = threading.Lock()
_SHARED_LOCK = threading.Lock()
"""Sites that compute at the same time wait for the one that reads the table."""


def _site_data(settings: SiteSettings, policy: SitePolicy, ledger: Ledger, tables: TableState) -> SiteData:
    config, forgotten = settings.config, ledger.history().forgotten
    fraction = policy.validation_fraction
    if fraction is None:
        fraction = config.data.validation_fraction
    secret = simulated_secret(config.seed) if settings.is_simulated else ledger.role_secret
    key = (config, settings.site, secret, fraction, policy.max_cache_bytes, forgotten, tables)
    with _DATA_LOCK:
        known = _DATA.get((settings.ledger, settings.is_simulated))
        if known is not None and known[0] == key:
            return known[1]
    table = _readable_table(settings, tables)
    data = SiteData(
        config=config,
        table=table if not forgotten else _without(table, ledger, forgotten),
        role_secret=secret,
        validation_fraction=fraction,
        max_cache_bytes=policy.max_cache_bytes,
        # Simulated sites share a cache.
        is_cache_purged=bool(forgotten) and not settings.is_simulated,
    )
    with _DATA_LOCK:
        _DATA[settings.ledger, settings.is_simulated] = (key, data)
    if known is not None and known[1].config == config:
        _log_who_changed(known[1], data)
    return data


def _log_who_changed(before: SiteData, after: SiteData) -> None:
    """Say to the site's own people how many patients came and went; no reply says it."""
    old, new = (set(data.patients(*Role)) for data in (before, after))
    if old != new:
        logger.warning(
            "The site's patients changed: %d gone, %d new, %d now.", len(old - new), len(new - old), len(new)
        )


def _without(table: LesionTable, ledger: Ledger, forgotten: frozenset[bytes]) -> LesionTable:
    patients = {str(patient) for patient in table.frame["patient_id"]}
    return restrict(table, {patient for patient in patients if ledger.pseudonym(patient) not in forgotten})


def _readable_table(settings: SiteSettings, tables: TableState) -> LesionTable:
    try:
        if settings.is_simulated:
            with _SHARED_LOCK:
                return _shared_table(settings.config, tables).of(settings.site)
        return site_table(settings.config, settings.site)
    except ConfigError as error:
        # Where its files lie is the site's own affair, so that the server must not take it for its configuration.
        raise TableError(str(error)) from error


@lru_cache(maxsize=1)
def _shared_table(config: ExperimentConfig, tables: TableState) -> SharedTable:  # noqa: ARG001, read anew with them
    return SharedTable.read(config)


@cache
def _open_ledger(path: Path) -> Ledger:
    return Ledger(path)


@cache
def _open_simulated_ledger(path: Path) -> Ledger:
    if is_begun(path):
        return Ledger(path)
    earlier = path.parent.with_name(f"{path.parent.name}.sqlite")
    if earlier.exists():
        # An empty ledger beside it would grant everything again.
        raise LedgerError(
            f"Expected the ledger {earlier} of an earlier version at {path}; move it and the files beside it there, "
            "or set another federation.ledger_dir."
        )
    return Ledger.create(path)
