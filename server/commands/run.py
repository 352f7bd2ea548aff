"""``fedmammo server run``."""

from typing import Annotated

import typer

from server.commands.flags import HERE, NO_LONGER_FOLLOWED, KitPath


def run(
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None, kit: KitPath = HERE
) -> None:
    """Submit a run and follow it to its results.

    KEY=VALUE changes the configuration; fedmammo simulate --help names the keys. Sites come from the kit.
    """
    from rich.console import Console

    from server.deployment.kit import ServerKit
    from server.deployment.submission import complete_overrides, submit_and_follow
    from shared_model.system.terminal import log_to_stderr, on_interrupt

    log_to_stderr()
    server_kit = ServerKit.load(kit)
    with on_interrupt(NO_LONGER_FOLLOWED):
        submit_and_follow(server_kit, complete_overrides(overrides or (), server_kit), Console())
