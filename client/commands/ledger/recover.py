"""``fedmammo site ledger recover``."""

from client.commands.flags import HERE, SitePath


def recover(site: SitePath = HERE) -> None:
    """Enter as spent what the audit log knows and the ledger does not, after a backup or a snapshot was restored.

    Nobody knows any more whom a lost release was about: all patients whom the ledger knows and all of today's spend it.
    """
    from rich.console import Console

    from client.deployment import rollback
    from client.deployment.site_file import SiteFile
    from shared_model.system.process_lock import ProcessLock

    settings = SiteFile.load(site)
    with ProcessLock.take(settings.lock):
        found = rollback.recover(settings)
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{found.num_releases} lost releases are entered as spent, {found.num_forgotten} withdrawals again. Where the "
        "audit log was restored too, only the coordinator knows more: ask for its warnings about this site."
    )
    if found.num_to_repeat:
        console.print(
            f"{found.num_to_repeat} patients withdrew under an earlier ledger, whose key is lost: withdraw them again, "
            "fedmammo site forget."
        )
