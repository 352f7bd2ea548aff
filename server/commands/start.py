"""``fedmammo server start``."""

from typing import Annotated

import typer

from server.commands.flags import HERE, KitPath


def start(
    kit: KitPath = HERE,
    notify: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="Called with event, subject and details when something happens."),
    ] = None,
) -> None:
    """Run the SuperLink, to which the hospitals connect, until Ctrl-C.

    Events: run-started, run-finished, run-failed, run-stopped, budget-nearly-spent, site-online, site-offline. The page
    state/status.html in the kit shows sites and runs.
    """
    import logging
    import shlex

    from rich.console import Console

    from server.deployment.kit import ServerKit
    from server.deployment.superlink import serve
    from server.deployment.watch import Watch
    from shared_model.system.processes import stop_on_signals
    from shared_model.system.terminal import log_to_stderr

    log_to_stderr(logging.INFO)
    server_kit, console = ServerKit.load(kit), Console(soft_wrap=True, highlight=False)
    watch = Watch(server_kit, shlex.split(notify or ""))
    console.print(f"Starting on port {server_kit.port} for {', '.join(server_kit.sites)}; stop with Ctrl-C.")
    with stop_on_signals() as stop:
        serve(
            server_kit,
            stop=stop,
            on_ready=lambda: console.print(f"Ready: sites may connect. {server_kit.status_page} shows them."),
            on_poll=watch.look,
        )
