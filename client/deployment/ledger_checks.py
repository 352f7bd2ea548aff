"""Whether a hospital's ledger may go on: it is whole, its own, in force, and no earlier state of itself."""

from client.deployment.ledger_identity import require_identity
from client.deployment.rollback import require_in_force, require_no_rollback
from client.deployment.site_file import SiteFile
from client.privacy.ledger import Ledger
from shared_model.system.audit_log import read


def check_ledger(site: SiteFile) -> str:
    """Check the ledger's chain, its end and its key, and that it did not move elsewhere.

    Raises:
        LedgerError: there is none, it was changed, is damaged or retired.
    """
    history = Ledger(site.ledger).history()
    require_in_force(history)
    return f"{len(history.entries)} entries verified"


def check_identity(site: SiteFile) -> str:
    """Check that the ledger is the one that this site began.

    Raises:
        LedgerError: it is another, or nothing says which it was.
    """
    ledger = Ledger(site.ledger)
    require_identity(site, ledger)
    return f"{ledger.name[:12]}, as begun here"


def check_rollback(site: SiteFile) -> str:
    """Check that the ledger has everything that the audit log names.

    Raises:
        LedgerError: it has not.
        ConfigError: the audit log was changed.
    """
    num_heads = require_no_rollback(read(site.audit_log), Ledger(site.ledger).history())
    return f"all {num_heads} heads of the audit log are in the ledger" if num_heads else "the audit log names none yet"
