"""``fedmammo server start``."""

from server.commands.flags import HERE, KitPath


def start(kit: KitPath = HERE) -> None:
    """Run the SuperLink, to which the hospitals connect, until Ctrl-C."""
    from rich.console import Console

    from server.deployment.kit import ServerKit
    from server.deployment.superlink import serve
    from shared_model.system.processes import stop_on_signals
    from shared_model.system.terminal import log_to_stderr

    log_to_stderr()
    server_kit, console = ServerKit.load(kit), Console(soft_wrap=True, highlight=False)
    console.print(f"Starting on port {server_kit.port} for {', '.join(server_kit.sites)}; stop with Ctrl-C.")
    with stop_on_signals() as stop:
        serve(server_kit, stop=stop, on_ready=lambda: console.print("Ready: sites may connect."))
