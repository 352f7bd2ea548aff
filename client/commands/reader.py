"""``fedmammo site reader``."""

from pathlib import Path
from typing import Annotated

import typer

from client.commands.flags import HERE, SitePath

_PORT = 8800


def _port(text: object) -> int:
    if not str(text).isascii() or not str(text).isdigit() or not 1 <= int(str(text)[:6]) <= 65535:
        raise typer.BadParameter(f"expected {text!r} to be a port from 1 to 65535")
    return int(str(text))


def reader(
    site: SitePath = HERE,
    *,
    release: Annotated[Path, typer.Option(metavar="FOLDER", help="As fedmammo server release made it.")],
    port: Annotated[int | None, typer.Option(parser=_port, metavar="NUMBER", help="Of this machine; 8800.")] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Another than this machine's own only behind the hospital's proxy.")
    ] = "127.0.0.1",
    accept_unsigned: Annotated[
        bool, typer.Option("--accept-unsigned", help="Read with a release that nobody signed.")
    ] = False,
) -> None:
    """Show this hospital's films in a browser and read lesions with a release, until Ctrl-C; nothing is sent.

    Prints the address to open. Research software, not for decisions about patients.
    """
    import torch

    from client.data.dicom.decoder_pool import stop_decoders
    from client.deployment.site_file import SiteFile
    from client.reader_page.serving import Listening, access_to, address_of, serve
    from client.reading.reader import Reader
    from shared_model.system.terminal import log_to_stderr

    log_to_stderr()
    torch.set_num_threads(1)
    settings = SiteFile.load(site)
    listening = Listening(host=host, port=_PORT if port is None else port)
    access = access_to(settings, listening)
    opened = Reader.open(release, site=settings, accept_unsigned=accept_unsigned)
    typer.echo(f"Open {address_of(listening, access)}\nStop with Ctrl-C.")
    try:
        serve(settings, opened, access, listening)
    finally:
        stop_decoders()
