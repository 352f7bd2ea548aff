"""The command ``fedmammo``: the root of all commands, and what becomes of their failures."""

import os
import sys
from collections.abc import Sequence

import typer
from click.exceptions import NoArgsIsHelpError, UsageError

from client.commands import app as site
from client.commands import manifest
from client.commands.read import read
from server.commands import app as server
from shared_model.errors import FederatedMammographyError
from simulations.commands import attack, benchmark, reference, study
from simulations.commands.evaluate import evaluate
from simulations.commands.explain import explain
from simulations.commands.phantom import phantom
from simulations.commands.rehearse import rehearse
from simulations.commands.rehearse_day import rehearse_day
from simulations.commands.release import release
from simulations.commands.simulate import simulate

app = typer.Typer(
    help="Federated learning of a breast-lesion classifier, private for every patient.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    suggest_commands=False,
)
app.command()(simulate)
app.add_typer(study.app, name="study")
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(attack.app, name="attack")
app.add_typer(reference.app, name="reference")
app.command()(evaluate)
app.command()(explain)
app.command()(rehearse)
app.command()(rehearse_day)
app.command()(phantom)
app.command()(read)
app.add_typer(manifest.app, name="manifest")
app.add_typer(site.app, name="site")
server.app.command()(release)
app.add_typer(server.app, name="server")

_NAME = "fedmammo"
_LOCKS = "fcntl"
"""The standard library's module that Windows lacks; ledger, audit log and cache are locked with it."""
_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``fedmammo`` with ``arguments``, by default those of this process, and return its exit status.

    0: done. 1: an error of ours or of a file, 2: wrong usage, 130: Ctrl-C; each says why in one line on the standard
    error.
    """
    from shared_model.system.processes import no_proxy

    # Of this process' own clients and of all that it starts.
    os.environ.update(no_proxy())
    command, status = typer.main.get_command(app), 0
    try:
        with command.make_context(_NAME, list(sys.argv[1:] if arguments is None else arguments)) as context:
            command.invoke(context)
    except typer.Exit as done:
        status = done.exit_code
    except NoArgsIsHelpError:
        # It has shown the help of the group by now.
        status = _USAGE
    except UsageError as error:
        status = _fail(_in_one_line(error), _USAGE)
    except FederatedMammographyError as error:
        status = _fail(str(error), _FAILED)
    except ModuleNotFoundError as error:
        status = _fail(_without_locks(error), _FAILED)
    except OSError as error:
        status = _fail(f"Expected to read and write what the command needs: {error}", _FAILED)
    except KeyboardInterrupt as interrupt:
        status = _interrupt(str(interrupt))
    return status


def _without_locks(error: ModuleNotFoundError) -> str:
    """Return what to do on a system without file locks; another module that is missing is a fault of the install."""
    if error.name != _LOCKS:
        raise error
    return (
        f"Expected a system with the file locks of POSIX, such as Linux, got {sys.platform}, whose Python has no "
        f"{_LOCKS}; run it in a container or a virtual machine with Linux."
    )


def _in_one_line(error: UsageError) -> str:
    message = error.format_message()
    end = "" if message.endswith((".", "?", "?)")) else "."
    return f"{message}{end} See {_NAME if error.ctx is None else error.ctx.command_path} --help."


def _fail(reason: str, status: int) -> int:
    from shared_model.system.terminal import print_error

    print_error(reason)
    return status


def _interrupt(note: str) -> int:
    from shared_model.system.terminal import print_note

    print_note(note or "interrupted")
    return _INTERRUPTED
