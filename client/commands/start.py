"""``fedmammo site start``."""

from typing import Annotated

import typer

from client.commands.flags import HERE, SitePath
from client.commands.preflight import preflight

AcceptSpellings = Annotated[
    bool,
    typer.Option(
        "--accept-spellings", help="Patients whose identifiers are spelt in another way than before are the same."
    ),
]


def start(site: SitePath = HERE, accept_spellings: AcceptSpellings = False) -> None:
    """Answer the coordinator's requests until Ctrl-C; begins only if preflight finds nothing wrong."""
    from client.deployment.own_patients import remember_spellings
    from client.deployment.site_file import SiteFile
    from shared_model.system.process_lock import ProcessLock

    settings = SiteFile.load(site)
    with ProcessLock.take(settings.lock):
        if accept_spellings:
            remember_spellings(settings)

        import logging

        import torch
        from rich.console import Console

        # Before preflight, which tries the arithmetic that will be used.
        torch.set_num_threads(1)
        preflight(site)

        from client.app import app
        from client.deployment.supernode import serve
        from shared_model.system.processes import stop_on_signals
        from shared_model.system.terminal import log_to_stderr

        log_to_stderr(logging.INFO)
        console = Console()
        console.print(f"{settings.site} answers {settings.server}; stop with Ctrl-C.", highlight=False, soft_wrap=True)
        with stop_on_signals() as stop:
            serve(settings, app, stop=stop)
