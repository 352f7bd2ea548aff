"""``fedmammo rehearse-day``."""

from pathlib import Path
from typing import Annotated

import typer


def rehearse_day(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Of the day: new, or that of an earlier one.")],
    films: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="CBIS-DDSM: play the day with its four films instead of synthetic ones."),
    ] = None,
) -> None:
    """Play a hospital's day with the reader: a PACS, films, the page in a browser, results, and what must be refused.

    Trains a small network and makes a release of it first. Needs Orthanc, Chromium, playwright and the right to make a
    network namespace, in which nobody else reaches the PACS. Ends with status 1 unless every step went as expected;
    protocol.md in FOLDER says what was done, expected and seen. Played again in the same FOLDER, the day goes on with
    what is there.
    """
    from rich.console import Console

    from client.pacs.extra import require_extra
    from shared_model.errors import ConfigError
    from simulations.day import loopback
    from simulations.day.play import PROTOCOL, missing, play
    from simulations.federation.rehearsal import FEDMAMMO

    folder, root = out.resolve(), None if films is None else films.resolve()
    require_extra()
    if lacks := missing(root):
        raise ConfigError(f"Expected a machine that can play a day: {lacks}.")
    if not loopback.is_alone():
        more = () if root is None else ("--films", str(root))
        raise typer.Exit(loopback.run_alone((*FEDMAMMO, "rehearse-day", "--out", str(folder), *more)))
    is_good = play(folder, Console(soft_wrap=True), root=root)
    typer.echo(f"Protocol in {folder / PROTOCOL}")
    if not is_good:
        raise typer.Exit(1)
