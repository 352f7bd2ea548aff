"""``fedmammo server resume``."""

from server.commands.flags import HERE, NO_LONGER_FOLLOWED, KitPath, RunFolder


def resume(run: RunFolder, kit: KitPath = HERE) -> None:
    """Go on with a run that was stopped or killed, and follow it to its results.

    RUN is the folder of the run.
    """
    from rich.console import Console

    from server.deployment.kit import ServerKit
    from server.deployment.submission import read_submission, submit_and_follow
    from shared_model.system.terminal import log_to_stderr, on_interrupt

    log_to_stderr()
    overrides = list(read_submission(run).overrides)
    with on_interrupt(NO_LONGER_FOLLOWED):
        submit_and_follow(ServerKit.load(kit), overrides, Console())
