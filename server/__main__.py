"""``python -m server``: the server's work, from the first kit to the last round."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from server.deployment.bundle import bundle_digest
from server.deployment.follow import follow
from server.deployment.kit import ServerKit
from server.deployment.provision import provision
from server.deployment.superlink import list_runs, serve, site_statuses, stop_run, submit_run
from server.report.html_report import REPORT_FILE, write_report
from server.report.model_card import MODEL_CARD_FILE
from server.report.run_display import RunDisplay, print_results
from server.report.tensorboard import write_events
from server.results.document import RESULTS_FILE
from shared_model.config.composition import compose
from shared_model.errors import ConfigError, FederatedMammographyError
from shared_model.system.files import write_atomically
from shared_model.system.processes import stop_on_signals
from shared_model.system.terminal import log_to_stderr, print_error

_INTERRUPTED = 130
_OVERRIDES_FILE = "overrides.json"
"""Beside the results: what ``resume`` submits again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0 where the command did what it says."""
    options = _parser().parse_args(arguments)
    console, errors = Console(), log_to_stderr()
    try:
        _COMMANDS[options.command](options, console)
    except FederatedMammographyError as error:
        print_error(error)
        return 1
    except KeyboardInterrupt:
        errors.print("no longer followed; the run goes on: python -m server status", highlight=False)
        return _INTERRUPTED
    return 0


def _provision(options: argparse.Namespace, console: Console) -> None:
    digest = bundle_digest()
    provision(
        out=options.out,
        sites=options.sites.split(","),
        host=options.host,
        port=options.port,
        valid_days=options.valid_days,
        approved_bundles=[digest],
    )
    console.print(f"Kits in {options.out}: keep ca/ offline, run the server from server/, send each site its own.")
    console.print(f"Sites will answer application bundle {digest}.", highlight=False, soft_wrap=True)


def _start(options: argparse.Namespace, console: Console) -> None:
    kit = ServerKit.load(options.kit)
    console.print(f"Starting on port {kit.port} for {', '.join(kit.sites)}; stop with Ctrl-C.")
    serve(kit, stop=stop_on_signals(), on_ready=lambda: console.print("Ready: sites may connect."))


def _run(options: argparse.Namespace, console: Console) -> None:
    kit = ServerKit.load(options.kit)
    overrides = [*options.overrides, *_overrides_of(kit)]
    config = compose(overrides)
    # The application runs in a folder of its own.
    folder = Path(config.run.dir).resolve()
    _submit_and_follow(kit, [*overrides, f"run.dir={folder}"], console)


def _resume(options: argparse.Namespace, console: Console) -> None:
    path = options.run / _OVERRIDES_FILE
    try:
        overrides = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"Expected a run of python -m server run in {options.run}: {error}") from error
    _submit_and_follow(ServerKit.load(options.kit), overrides, console)


def _submit_and_follow(kit: ServerKit, overrides: Sequence[str], console: Console) -> None:
    config = compose(overrides)
    folder = Path(config.run.dir)
    if (folder / RESULTS_FILE).exists():
        raise ConfigError(f"Expected run.dir={folder} without the results of another run; name a new folder.")
    write_atomically(folder / _OVERRIDES_FILE, json.dumps(overrides).encode())
    run_id = submit_run(kit, overrides)
    console.print(f"Run {run_id} in {folder}", highlight=False, soft_wrap=True)
    with RunDisplay(config, console) as display:
        results = follow(kit, run_id, config, display)
    write_report(folder)
    print_results(results, config, console)


def _report(options: argparse.Namespace, console: Console) -> None:
    write_report(options.run)
    console.print(f"{options.run / REPORT_FILE} and {MODEL_CARD_FILE}", highlight=False, soft_wrap=True)


def _events(options: argparse.Namespace, console: Console) -> None:
    for folder in options.runs:
        console.print(write_events(folder), highlight=False, soft_wrap=True)


def _status(options: argparse.Namespace, console: Console) -> None:
    kit = ServerKit.load(options.kit)
    sites = Table(title="Sites")
    for name in ("site", "status"):
        sites.add_column(name)
    for site, status in site_statuses(kit).items():
        sites.add_row(site, status)
    console.print(sites)
    table = Table(title="Runs")
    for name in ("run", "status", "seconds"):
        table.add_column(name)
    for run in list_runs(kit):
        table.add_row(run.run_id, run.status, f"{run.elapsed_seconds:.0f}")
    console.print(table)


def _stop(options: argparse.Namespace, console: Console) -> None:
    stop_run(ServerKit.load(options.kit), options.run_id)
    console.print(f"Run {options.run_id} is stopping; python -m server resume goes on with it later.")


def _overrides_of(kit: ServerKit) -> list[str]:
    nodes = kit.node_ids()
    if set(nodes) != set(kit.sites):
        raise ConfigError("Expected all sites to be enrolled; is python -m server start running?")
    ids = ",".join(str(nodes[site]) for site in kit.sites)
    return [f"federation.sites=[{','.join(kit.sites)}]", f"federation.node_ids=[{ids}]"]


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Console], None]] = {
    "provision": _provision,
    "start": _start,
    "run": _run,
    "status": _status,
    "stop": _stop,
    "resume": _resume,
    "report": _report,
    "events": _events,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m server", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    kits = commands.add_parser("provision", help="make certificates, keys and a start-up kit for every site")
    kits.add_argument("--sites", required=True, help="names, separated by commas")
    kits.add_argument("--out", type=Path, required=True, help="folder to make")
    kits.add_argument("--host", default="localhost", help="name or address of this server; default localhost")
    kits.add_argument("--port", type=int, default=9092, help="default 9092")
    kits.add_argument("--valid-days", type=int, default=365, help="of the server's certificate; default 365")
    for name, text in (
        ("start", "run the SuperLink until Ctrl-C"),
        ("run", "submit a run and follow it"),
        ("status", "which sites are there, and which runs"),
        ("stop", "stop a run"),
        ("resume", "go on with a run that was stopped or killed"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--kit", type=Path, default=Path(), help="the kits' server folder; default here")
        if name == "run":
            command.add_argument("overrides", nargs="*", help="Hydra overrides, key=value")
        elif name == "stop":
            command.add_argument("run_id")
        elif name == "resume":
            command.add_argument("run", type=Path, help="folder of the run")
    report = commands.add_parser("report", help="write the report and model card of a finished run again")
    report.add_argument("run", type=Path, help="folder of the run")
    events = commands.add_parser("events", help="write finished runs as TensorBoard event files")
    events.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
