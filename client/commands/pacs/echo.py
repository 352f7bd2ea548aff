"""``fedmammo site pacs echo``."""

from client.commands.flags import HERE, SitePath


def echo(site: SitePath = HERE) -> None:
    """Ask whether the PACS hears this site (C-ECHO)."""
    from rich.console import Console

    from client.deployment.site_file import SiteFile
    from client.pacs.extra import require_extra

    settings = SiteFile.load(site).require_pacs()
    require_extra()

    from client.pacs.network.association import echo as ask

    ask(settings)
    Console(highlight=False, soft_wrap=True).print(
        f"{settings.called} at {settings.host}:{settings.port} hears {settings.ae_title}.", markup=False
    )
