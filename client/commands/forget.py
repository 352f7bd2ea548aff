"""``fedmammo site forget``."""

from typing import Annotated

import typer

from client.commands.flags import HERE, SitePath

Patient = Annotated[str, typer.Argument(help="The patient's identifier, in any spelling.")]


def forget(patient: Patient, site: SitePath = HERE) -> None:
    """Let a patient take part no longer, from the next request on, and erase what is cached of her images.

    What she has spent of her privacy stays spent, and earlier models stay as they are.
    """
    from rich.console import Console

    from client.deployment.site_file import SiteFile
    from client.deployment.withdrawal import withdraw

    done = withdraw(SiteFile.load(site), patient)
    console = Console(highlight=False, soft_wrap=True)
    console.print("She takes part no longer, from the next request on; a running process notices by itself.")
    erased = "the whole image cache was" if done.num_erased is None else f"{done.num_erased} cached inputs were"
    console.print(f"Of her images {erased} erased. Files and tables are yours: take her out of them too.")
    if done.was_in_ledger:
        console.print("What she has spent of her privacy budget stays spent, as its releases cannot be called back.")
    if not done.was_in_ledger and not done.was_in_tables:
        console.print("Neither the ledger nor a table knows this identifier: look whether it is the one you meant.")
