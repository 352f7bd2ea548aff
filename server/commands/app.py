"""The commands under ``fedmammo server``."""

import typer

from server.commands.dossier import dossier
from server.commands.events import events
from server.commands.follow import follow
from server.commands.provision import provision
from server.commands.report import report
from server.commands.resume import resume
from server.commands.run import run
from server.commands.start import start
from server.commands.status import status
from server.commands.stop import stop

app = typer.Typer(help="The coordinator: from the first kit to the report of a run.", no_args_is_help=True)
for command in (provision, start, run, follow, status, stop, resume, report, dossier, events):
    app.command()(command)
