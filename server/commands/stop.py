"""``fedmammo server stop``."""

from typing import Annotated

import typer

from server.commands.flags import HERE, KitPath


def stop(run_id: Annotated[str, typer.Argument(metavar="RUN_ID")], kit: KitPath = HERE) -> None:
    """Stop a run; what it has finished stays.

    RUN_ID is the one that fedmammo server status gives.
    """
    from server.deployment.control import stop_run
    from server.deployment.kit import ServerKit

    stop_run(ServerKit.load(kit), run_id)
    typer.echo(f"Run {run_id} is stopping; fedmammo server resume goes on with it later.")
