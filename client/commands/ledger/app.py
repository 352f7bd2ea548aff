"""The commands under ``fedmammo site ledger``."""

import typer

from client.commands.ledger.backup import backup
from client.commands.ledger.move import move
from client.commands.ledger.recover import recover
from client.commands.ledger.verify import verify

app = typer.Typer(help="Verify, copy and move this hospital's privacy ledger.", no_args_is_help=True)
for command in (verify, backup, move, recover):
    app.command()(command)
