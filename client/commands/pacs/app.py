"""The commands under ``fedmammo site pacs``."""

import typer

from client.commands.pacs.echo import echo
from client.commands.pacs.fetch import fetch
from client.commands.pacs.find import find
from client.commands.pacs.post import post
from client.commands.pacs.receive import receive
from client.commands.pacs.results import results
from client.commands.pacs.send import send
from client.commands.pacs.worklist import worklist

app = typer.Typer(help="Films from this hospital's PACS, and results to it.", no_args_is_help=True)
for command in (echo, find, worklist, fetch, receive, results, send, post):
    app.command()(command)
