"""What a person sees of a run on the terminal: the rounds as they finish, and the final tables."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from server.report.printed_numbers import MISSING, format_interval, format_number, in_words
from server.results.document import Results, RoundResult
from shared_model.config.choices import PrivacyMode
from shared_model.config.experiment import ExperimentConfig
from shared_model.metrics.intervals import ConfidenceInterval

_ROUNDS = "rounds"
_COLUMNS = ("round", "AUC", "sensitivity", "specificity", "max epsilon", "sites", "seconds")


class RunDisplay:
    """A table that grows on a terminal; plain lines where the output is a file or a pipe."""

    def __init__(self, config: ExperimentConfig, console: Console) -> None:
        """Begin the display of one run."""
        self._config = config
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._outliers: tuple[str, ...] = ()
        """Of the round before: what goes on is not said again."""
        self._rounds = _rounds_table()
        self._live = Live(self._progress, console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def on_progress(self, task: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of ``task`` are done."""
        if task not in self._tasks:
            self._tasks[task] = self._progress.add_task(task, total=total)
        self._progress.update(self._tasks[task], completed=done, total=total)
        if self._live is None and done == total and task != _ROUNDS:
            self.print_line(f"{task:<12} {done}/{total}")

    def on_round(self, result: RoundResult) -> None:
        """Show a finished round."""
        self.on_progress(_ROUNDS, result.round, self._config.training.num_rounds)
        cells = (
            str(result.round),
            *(format_number(value) for value in (result.auroc, result.sensitivity, result.specificity)),
            format_number(result.epsilon, digits=2),
            f"{result.num_sites}/{len(self._config.federation.sites)}",
            f"{result.seconds:.1f}",
        )
        self._rounds.add_row(*cells)
        if self._live is not None:
            self._live.update(Group(self._rounds, self._progress))
        else:
            self.print_line("  ".join(f"{name} {cell}" for name, cell in zip(_COLUMNS, cells, strict=True)))
        for warning in (*result.warnings, *(line for line in result.outliers if line not in self._outliers)):
            self.print_line(f"warning: {warning}")
        self._outliers = result.outliers

    def print_line(self, line: str) -> None:
        """Show one line, on a terminal above the table."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _rounds_table() -> Table:
    table = Table(title="Global test figures by round")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    return table


def print_results(results: Results, config: ExperimentConfig, console: Console) -> None:
    """Print the final metrics with 95% intervals, what every site has spent, and what was promised to patients."""
    final = results.final
    tested = "" if final.num_lesions is None else f" {final.num_lesions} test lesions,"
    table = Table(title=f"Federated result: {results.preset},{tested} seed {results.seed}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("95% interval", justify="right")
    rows: Mapping[str, tuple[float | None, ConfidenceInterval | None]] = {
        "AUC": (final.auroc, final.auroc_interval),
        "sensitivity": (final.sensitivity, final.sensitivity_interval),
        "specificity": (final.specificity, final.specificity_interval),
    }
    for name, (value, interval) in rows.items():
        table.add_row(name, format_number(value), format_interval(interval))
    table.add_row("threshold", format_number(final.threshold), MISSING)
    console.print(table)
    sites = Table(title="Sites in this run")
    for name in ("site", "patients (declared)", "epsilon", "delta", "noise multiplier", "test AUC"):
        sites.add_column(name, justify="left" if name == "site" else "right")
    for site in results.sites:
        sites.add_row(
            site.site,
            str(site.num_patients_declared),
            format_number(site.epsilon, digits=2),
            MISSING if site.delta is None else f"{site.delta:g}",
            format_number(site.noise_multiplier, digits=2),
            format_number(site.auroc),
        )
    console.print(sites)
    _print_warnings(results, console)
    console.print(results.privacy.statement, highlight=False, soft_wrap=True)
    if results.reference is not None:
        console.print(results.reference.statement, highlight=False, markup=False, soft_wrap=True)
    if config.privacy.mode is PrivacyMode.PATIENT:
        console.print(f"Note: {results.privacy.evaluation}.", highlight=False, soft_wrap=True)
    console.print(f"Results in {config.run.dir}", highlight=False, soft_wrap=True)


def _print_warnings(results: Results, console: Console) -> None:
    """Print what casts doubt on the figures: who took no part, and what stood out."""
    lines = [f"{absent.site} took no part: {absent.reason}" for absent in results.absent]
    lines += [f"Warning: in round {entry.round} {warning}." for entry in results.rounds for warning in entry.warnings]
    lines += [
        f"Warning: {outlier}, in {in_words(rounds)}. Ask the site before the figures are used."
        for outlier, rounds in results.rounds_by_outlier().items()
    ]
    for line in lines:
        console.print(line, style="bold red", highlight=False, markup=False, soft_wrap=True)
