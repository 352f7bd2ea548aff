"""``fedmammo server follow``."""

from server.commands.flags import HERE, NO_LONGER_FOLLOWED, KitPath, RunFolder


def follow(run: RunFolder, kit: KitPath = HERE) -> None:
    """Show the rounds of a run as they finish, and its results.

    RUN is the folder of the run, or its number as fedmammo server status gives it.
    """
    from rich.console import Console

    from server.deployment.kit import ServerKit
    from server.deployment.submission import follow_to_report
    from shared_model.system.terminal import log_to_stderr, on_interrupt

    log_to_stderr()
    with on_interrupt(NO_LONGER_FOLLOWED):
        follow_to_report(ServerKit.load(kit), run, Console())
