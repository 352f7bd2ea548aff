"""How a site begins: its ledger is created, once in its life, and the size that it declares is fixed."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from client.data.splits import Role
from client.deployment.checks import Doubt
from client.deployment.ledger_identity import remember_identity, remembered_identity
from client.deployment.own_patients import num_training, own_data
from client.deployment.patient_checks import check_tables
from client.deployment.rollback import BEGUN, record
from client.deployment.site_file import SiteFile
from client.privacy.declared_size import rounded_down
from client.privacy.ledger import Ledger
from client.privacy.ledger_files import ledger_files
from client.privacy.policy import SitePolicy
from client.privacy.policy_file import fill_in_declared_patients
from shared_model.errors import ConfigError, LedgerError, PrivacyError


@dataclass(frozen=True, kw_only=True)
class Initialised:
    """What a site began with."""

    ledger: str
    """Its random name."""
    num_training: int
    """Training patients; it stays at the site."""
    declared_patients: int
    """The size that the site will tell, at most ``num_training``."""


def initialise(site: SiteFile) -> Initialised:
    """Create the site's ledger, and fill in ``declared_patients`` of its policy where it is null.

    The training patients are counted by the site's own roles and rounded down to the policy's ``min_cohort_rounding``.
    If anything fails, there is no ledger afterwards: nothing was released yet.

    Raises:
        LedgerError: there is a ledger already, or there was one.
        ConfigError, TableError, RejectLimitError: settings, policy or tables cannot be used.
        PrivacyError: the site has too few training patients to declare.
        OSError: a file cannot be written.
    """
    policy = SitePolicy.load(site.policy)
    name = remembered_identity(site)
    if name is not None:
        if site.ledger.exists():
            raise LedgerError(
                f"Expected a site that never began a ledger; this one has {name[:12]}: go on with preflight."
            )
        raise LedgerError(
            f"Expected a site that never began a ledger; this one began {name[:12]}. Get that one back: a second would "
            f"forget what the first has spent. If it is lost for good, move {site.ledger_identity} away, begin anew, "
            "and enter all that the audit log knows: fedmammo site ledger recover."
        )
    with suppress(Doubt):
        check_tables(site)
    with _created(site) as ledger:
        data = own_data(site, policy, ledger)
        num_patients = num_training(data)
        declared = policy.declared_patients
        if declared is None:
            declared = _size_to_declare(num_patients, policy.min_cohort_rounding)
            fill_in_declared_patients(site.policy, declared)
        elif declared > num_patients:
            raise ConfigError(f"Expected declared_patients={declared} <= {num_patients} training patients here.")
        ledger.remember_spellings(data.patients(*Role))
        remember_identity(site, ledger)
        record(site, BEGUN, ledger)
    return Initialised(ledger=ledger.name, num_training=num_patients, declared_patients=declared)


@contextmanager
def _created(site: SiteFile) -> Iterator[Ledger]:
    """Create the ledger; take it away again if what follows fails."""
    ledger = Ledger.create(site.ledger)
    try:
        yield ledger
    except BaseException:
        for path in (*ledger_files(site.ledger), site.ledger_identity):
            path.unlink(missing_ok=True)
        raise


def _size_to_declare(num_patients: int, multiple: int) -> int:
    if num_patients < multiple:
        raise PrivacyError(
            f"Expected at least min_cohort_rounding={multiple} training patients, found {num_patients}: too few to "
            "declare."
        )
    return rounded_down(num_patients, multiple)
