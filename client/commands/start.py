"""``fedmammo site start``."""

from client.commands.flags import HERE, SitePath
from client.commands.preflight import preflight


def start(site: SitePath = HERE) -> None:
    """Answer the coordinator's requests until Ctrl-C; begins only if preflight finds nothing wrong."""
    preflight(site)

    import logging

    import torch
    from rich.console import Console

    from client.app import app
    from client.deployment.site_file import SiteFile
    from client.deployment.supernode import serve
    from shared_model.system.processes import stop_on_signals
    from shared_model.system.terminal import log_to_stderr

    log_to_stderr(logging.INFO)
    # It would log every poll.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    settings = SiteFile.load(site)
    Console().print(f"{settings.site} answers {settings.server}; stop with Ctrl-C.", highlight=False, soft_wrap=True)
    serve(settings, app, stop=stop_on_signals())
