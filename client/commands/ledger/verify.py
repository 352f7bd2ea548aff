"""``fedmammo site ledger verify``."""

from client.commands.flags import HERE, SitePath


def verify(site: SitePath = HERE) -> None:
    """Check the ledger's chain, its head, that it is this site's, and that it has all that the audit log names."""
    from rich.console import Console

    from client.deployment.rollback import verify_ledger
    from client.deployment.site_file import SiteFile

    found = verify_ledger(SiteFile.load(site))
    Console(highlight=False, soft_wrap=True).print(
        f"Verified: {found.num_entries} entries, head {found.head}; {found.num_heads} heads of the audit log are in it."
    )
