"""``fedmammo site ledger backup``."""

from client.commands.flags import HERE, NewFolder, SitePath


def backup(out: NewFolder, site: SitePath = HERE) -> None:
    """Copy the ledger, its head and its key to the new folder OUT, all of one moment; the site may be running.

    Keep it secret: the key is in it. A copy in place of the ledger would grant again what was spent since, so that the
    site refuses it; then enter that with fedmammo site ledger recover.
    """
    from rich.console import Console

    from client.deployment.ledger_identity import open_own_ledger
    from client.deployment.site_file import SiteFile

    copy = open_own_ledger(SiteFile.load(site)).back_up(out.resolve())
    Console(highlight=False, soft_wrap=True).print(
        f"Copied to {copy}. If it ever takes the ledger's place, and anything was released since, the site refuses "
        "until fedmammo site ledger recover has entered that as spent."
    )
