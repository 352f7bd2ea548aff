"""The commands under ``fedmammo site``."""

import typer

from client.commands.fingerprint import fingerprint
from client.commands.preflight import preflight
from client.commands.privacy_report import privacy_report
from client.commands.start import start

app = typer.Typer(help="At a hospital: check, take part, and account for the privacy spent.", no_args_is_help=True)
for command in (preflight, start, privacy_report, fingerprint):
    app.command()(command)
