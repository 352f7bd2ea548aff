"""A patient withdraws her consent: from the next request on she takes part no longer, and her cached images go."""

import shutil
from dataclasses import dataclass

from client.data.network_inputs import purge_network_inputs
from client.data.splits import Role
from client.deployment.ledger_identity import open_own_ledger
from client.deployment.own_patients import own_data
from client.deployment.rollback import record_forgotten
from client.deployment.site_file import SiteFile
from client.identifiers import fold_identifier
from client.privacy.ledger import Ledger
from client.privacy.policy import SitePolicy
from shared_model.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Withdrawal:
    """What became of a patient's data here."""

    was_in_ledger: bool
    """Whether she took part in a release; what she has spent stays spent."""
    was_in_tables: bool | None
    """None where the tables cannot be read."""
    num_erased: int | None
    """Cached inputs that nobody else's images need; None where the whole cache was erased."""


def withdraw(site: SiteFile, patient: str) -> Withdrawal:
    """Let a patient take part no longer, and erase everything that was computed from her images.

    A running process of the site notices at its next request.

    Raises:
        ConfigError: the identifier names nobody.
        LedgerError: the ledger is not this site's, was changed, is damaged or cannot be written.
        OSError: the cache cannot be erased.
    """
    try:
        folded = fold_identifier(patient)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    ledger = open_own_ledger(site)
    was_in_tables = _is_in_tables(site, ledger, folded)
    was_in_ledger = ledger.forget(patient)
    record_forgotten(site, ledger, patient)
    return Withdrawal(was_in_ledger=was_in_ledger, was_in_tables=was_in_tables, num_erased=_purge(site, ledger))


def _is_in_tables(site: SiteFile, ledger: Ledger, folded: str) -> bool | None:
    try:
        patients = own_data(site, SitePolicy.load(site.policy), ledger).patients(*Role)
    except (ConfigError, DataError):
        return None
    return folded in set(map(fold_identifier, patients))


def _purge(site: SiteFile, ledger: Ledger) -> int | None:
    try:
        data = own_data(site, SitePolicy.load(site.policy), ledger)
    except (ConfigError, DataError):
        # Nobody can tell whose images are cached.
        if site.cache.exists():
            shutil.rmtree(site.cache)
        return None
    return purge_network_inputs(data.table.frame, data.config)
