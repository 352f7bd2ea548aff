"""The commands under ``fedmammo site``."""

import typer

from client.commands.fingerprint import fingerprint
from client.commands.forget import forget
from client.commands.identity import identity
from client.commands.init import init
from client.commands.ledger import app as ledger
from client.commands.pacs import app as pacs
from client.commands.preflight import preflight
from client.commands.privacy_report import privacy_report
from client.commands.reader import reader
from client.commands.start import start

app = typer.Typer(help="At a hospital: check, take part, and account for the privacy spent.", no_args_is_help=True)
for command in (init, preflight, start, forget, privacy_report, fingerprint, identity, reader):
    app.command()(command)
app.add_typer(ledger.app, name="ledger")
app.add_typer(pacs.app, name="pacs")
