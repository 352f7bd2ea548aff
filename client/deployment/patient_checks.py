"""Whether a hospital's patients are fit for training: judged here, once, before a start, and never by a request.

A request that was refused for what the patients are would tell the coordinator what they are.
"""

from collections.abc import Mapping

from client.data.splits import Role, check_cohort
from client.data.tables.cbis_ddsm import types_with_tables
from client.data.tables.lesion_table import check_rejects
from client.data.tables.site_table import read_roster
from client.data.tables.table_notes import notes
from client.deployment.checks import Doubt
from client.deployment.own_patients import num_training, own_config, own_data, own_table
from client.deployment.site_file import SiteFile
from client.privacy.declared_size import rounded_down
from client.privacy.ledger import Ledger
from client.privacy.policy import SitePolicy
from client.site import SiteSettings
from shared_model.config.choices import DataSource
from shared_model.config.site_sections import DataConfig
from shared_model.errors import CohortError, ConfigError, DataError, LedgerError, PolicyError, TableError
from shared_model.system.peer_text import peer_text

_MAX_NAMES = 5
_FEW = 0.5
"""Share of today's patients that a ledger with releases should know."""


def check_tables(site: SiteFile) -> str:
    """Check that the tables can be read, that not too many of their rows are unusable, and whose lesions they are.

    Raises:
        ConfigError, TableError: they cannot be read, lack a lesion type of the policy, or the roster gives a patient to
            two sites or this site none.
        RejectLimitError: too many rows were rejected.
        Doubt: rows were rejected or cells taken as missing, or several patients have a ``lesion_id`` in common.
    """
    policy = SitePolicy.load(site.policy)
    settings = SiteSettings.from_node_config(site.node_config, own_config(site, policy))
    _require_tables(site, settings.config.data)
    roster = read_roster(settings.config.data, sites=[site.site])
    table = own_table(settings)
    if roster is not None:
        _require_named(site, roster)
    check_rejects(table, policy.max_reject_fraction)
    num_patients = table.frame["patient_id"].nunique()
    found = f"{num_patients} patients, {len(table.frame)} lesion views, {len(table.rejects)} rows rejected"
    doubts = list(notes(table))
    if table.contested:
        shown = peer_text(min(table.contested))
        doubts.append(
            f"{len(table.contested)} lesion_id of several patients, such as {shown}: whose are these lesions?"
        )
    if doubts:
        raise Doubt("; ".join([found, *doubts]))
    return found


def _require_tables(site: SiteFile, data: DataConfig) -> None:
    """Check that the tables of all lesion types that may be asked for are there; the kits' policy takes masses only."""
    root = site.data_root
    if not root.exists():
        raise ConfigError(f"Expected data_root={root} of site.yaml to exist, and this user to be let in.")
    if data.source is DataSource.MANIFEST:
        if root.is_dir():
            raise ConfigError(
                f"Expected data_root={root} to be the file of a manifest; set data_source: cbis_ddsm for a folder with "
                "the case descriptions of CBIS-DDSM."
            )
        return
    if not root.is_dir():
        raise ConfigError(f"Expected data_root={root} to be a folder; set data_source: manifest for a single table.")
    found = types_with_tables(root)
    if not found:
        raise TableError(
            f"Expected data_root={root} to hold the case descriptions of CBIS-DDSM "
            "(mass_case_description_train_set.csv and so on); set data_root to their folder, or data_source: manifest."
        )
    missing = set(data.lesion_types) - set(found)
    if missing:
        raise TableError(
            f"Expected tables of {' and '.join(data.lesion_types)} in {root}, found those of "
            f"{' and '.join(found)} alone; set lesion_types: [{', '.join(found)}] in {site.policy}, as agreed with the "
            "coordinator."
        )


def _require_named(site: SiteFile, roster: Mapping[str, str]) -> None:
    """Check that the roster names the site, whose tables would otherwise be nobody's."""
    names = sorted(set(roster.values()))
    if site.site.casefold() not in {name.casefold() for name in names}:
        shown = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
        raise ConfigError(
            f"Expected patients of site {site.site} in {site.roster}, found those of {shown}; write this site's name "
            "there, or set roster: null in site.yaml where all patients are its own."
        )


def check_identifiers(site: SiteFile) -> str:
    """Check that every patient is spelt in one way, and as she was when the ledger came to know her.

    Raises:
        DataError: a table spells a patient in two ways.
        LedgerError: it spells a patient in another way than before; or the ledger cannot be used.
        Doubt: the ledger knows few of today's patients.
        ConfigError, TableError: the tables cannot be read.
    """
    ledger = Ledger(site.ledger)
    data = own_data(site, SitePolicy.load(site.policy), ledger)
    if data.table.respelt:
        raise DataError(
            f"Expected one spelling of every patient_id, got several of {len(data.table.respelt)} patients."
        )
    found = ledger.recognise(data.patients(*Role))
    if found.num_respelt:
        raise LedgerError(f"Expected the patients spelt as before, got {found.num_respelt} spelt in another way.")
    num_patients = found.num_known + found.num_unknown
    known = f"the ledger knows {found.num_known} of {num_patients} patients"
    if found.has_releases and found.num_known < _FEW * num_patients:
        raise Doubt(f"{known}, and has releases: are these other identifiers for the same patients?")
    return known


def check_training_patients(site: SiteFile) -> str:
    """Check that there are enough patients to train on, of both classes.

    Raises:
        CohortError: there are not.
        ConfigError, TableError, LedgerError: tables or ledger cannot be used.
    """
    policy = SitePolicy.load(site.policy)
    data = own_data(site, policy, Ledger(site.ledger))
    patients = set(data.patients(Role.TRAIN))
    if len(patients) < policy.min_patients:
        raise CohortError(f"Expected training patients={len(patients)} >= min_patients={policy.min_patients}.")
    rows = data.table.frame[data.table.frame["patient_id"].isin(patients)]
    check_cohort(rows["label"].to_numpy(), rows["patient_id"].to_numpy(), role=Role.TRAIN)
    return f"{len(patients)} patients of both classes"


def check_declared_size(site: SiteFile) -> str:
    """Check that the size that the site declares is set, and still true.

    Raises:
        PolicyError: it is not.
        ConfigError, TableError, LedgerError: tables or ledger cannot be used.
    """
    policy = SitePolicy.load(site.policy)
    num_patients, declared = num_training(own_data(site, policy, Ledger(site.ledger))), policy.declared_patients
    if declared is None:
        largest = rounded_down(num_patients, policy.min_cohort_rounding)
        raise PolicyError(f"Expected declared_patients in {site.policy}; this site's number is {largest}.")
    if declared > num_patients:
        raise PolicyError(f"Alarm: expected declared_patients={declared} <= {num_patients} training patients of today.")
    return f"{declared} declared, {num_patients} there"
