"""The name of a site's ledger, kept in the state folder: a mistyped path in ``site.yaml`` leads to another ledger."""

from client.deployment.site_file import SiteFile
from client.privacy.ledger import Ledger
from shared_model.errors import LedgerError
from shared_model.system.files import write_atomically


def remember_identity(site: SiteFile, ledger: Ledger) -> None:
    """Write down the random name that the ledger was begun with.

    Raises:
        OSError: the state folder cannot be written.
    """
    site.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(site.ledger_identity, f"{ledger.name}\n".encode())


def remembered_identity(site: SiteFile) -> str | None:
    """Return the name that was written down; None if none was.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        return site.ledger_identity.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def open_own_ledger(site: SiteFile) -> Ledger:
    """Open the ledger that this site began.

    Raises:
        LedgerError: there is none, it is another, was changed, or is damaged.
        OSError: the identity cannot be read.
    """
    ledger = Ledger(site.ledger)
    require_identity(site, ledger)
    return ledger


def require_identity(site: SiteFile, ledger: Ledger) -> None:
    """Check that the ledger is the one that this site began.

    Raises:
        LedgerError: it is another, or nothing says which it was.
        OSError: the file cannot be read.
    """
    name = remembered_identity(site)
    if name is None:
        raise LedgerError(
            f"Expected the name of this site's ledger in {site.ledger_identity}. If {site.ledger} is that ledger and "
            "nothing else has its place, write it down again: fedmammo site ledger recover."
        )
    if name != ledger.name:
        raise LedgerError(
            f"Expected the ledger {name[:12]} of this site at {site.ledger}, found {ledger.name[:12]}: correct the "
            "path of the ledger in site.yaml."
        )
