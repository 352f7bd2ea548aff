"""``fedmammo site init``."""

from client.commands.flags import HERE, SitePath


def init(site: SitePath = HERE) -> None:
    """Begin this hospital's privacy ledger, once in its life, and fix the number of patients that it declares."""
    from rich.console import Console

    from client.deployment.initialisation import initialise
    from client.deployment.site_file import SiteFile

    settings = SiteFile.load(site)
    begun = initialise(settings)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Begun: the ledger {begun.ledger[:12]} in {settings.ledger}.")
    console.print(
        f"{begun.num_training} training patients, declared as {begun.declared_patients} (declared_patients in "
        f"{settings.policy}): a constant from now on."
    )
