"""``fedmammo site pacs receive``."""

from client.commands.flags import HERE, SitePath


def receive(site: SitePath = HERE) -> None:
    """Take in the films that the PACS sends (C-STORE), until Ctrl-C."""
    from rich.console import Console

    from client.deployment.site_file import SiteFile
    from client.pacs.extra import require_extra

    settings = SiteFile.load(site)
    pacs = settings.require_pacs()
    require_extra()

    import warnings

    from client.pacs.network.receiver import receiving
    from shared_model.system.audit_log import AuditLog
    from shared_model.system.processes import stop_on_signals
    from shared_model.system.terminal import log_to_stderr

    log_to_stderr()
    # pydicom's show values of films.
    warnings.filterwarnings("ignore", module="pydicom")
    with stop_on_signals() as stop, receiving(pacs, AuditLog(settings.audit_log)):
        Console(highlight=False, soft_wrap=True).print(
            f"{pacs.ae_title} listens on {pacs.listen_host}:{pacs.listen_port} for {', '.join(pacs.calling)}; films go "
            f"to {pacs.incoming}; stop with Ctrl-C.",
            markup=False,
        )
        stop.wait()
