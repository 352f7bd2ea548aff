"""``fedmammo site ledger move``."""

from client.commands.flags import HERE, NewFolder, SitePath


def move(out: NewFolder, site: SitePath = HERE) -> None:
    """Copy the ledger, its head and its key to the new folder OUT, and retire it where it is now.

    The site must not be running. The old copy stays for reading, and grants nothing any more.
    """
    from rich.console import Console

    from client.deployment.ledger_identity import open_own_ledger
    from client.deployment.rollback import MOVED, record
    from client.deployment.site_file import SiteFile
    from client.privacy.ledger import Ledger
    from shared_model.system.process_lock import ProcessLock

    settings = SiteFile.load(site)
    with ProcessLock.take(settings.lock):
        moved = open_own_ledger(settings).move_to(out.resolve())
        # The old copy's last entry, that it is retired, is not in the new one.
        record(settings, MOVED, Ledger(moved))
    Console(highlight=False, soft_wrap=True).print(f"Moved. Write into {site}: ledger: {moved}")
