"""``fedmammo explain``."""

from pathlib import Path
from typing import Annotated

import typer

from simulations.commands.flags import at_least


def explain(
    run: Annotated[Path, typer.Argument(metavar="RUN")],
    count: Annotated[int, typer.Option(parser=at_least(4), metavar="NUMBER", help="How many test lesions.")] = 16,
) -> None:
    """Show why the network of a finished run scored test lesions as it did.

    RUN is the folder of a finished run with images. Writes a picture of every lesion, the part that image and columns
    had in its score, and figures that say whether the maps can be trusted, to explanations/ in the run folder; then
    the report again, with them.
    """
    import torch
    from rich.console import Console

    from server.report.explanations import EXPLANATIONS_FOLDER
    from shared_model.system.terminal import log_to_stderr
    from simulations.explanations.explain_run import explain_run, print_checks
    from simulations.explanations.finished_run import FinishedRun

    log_to_stderr()
    torch.set_num_threads(1)
    console = Console()
    print_checks(explain_run(FinishedRun.open(run), count, console), console)
    typer.echo(f"Pictures in {run / EXPLANATIONS_FOLDER}, report written again")
